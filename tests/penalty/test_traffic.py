"""The penalty at memory speed, in bytes that have to come from and go to memory: no clock.

Blocks of the tensors stay in a cache that holds eight of them, the least recently used one leaves.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avalanche_mas import QuadraticPenalty
from avalanche_mas.penalty import blocks

BLOCK = 1 << 10
WEIGHTS = 64 * BLOCK


class Traffic(TorchDispatchMode):
    """Counts bytes that are read into the cache, written back from it, and in new tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[tuple[int, int], bool] = {}  # place in memory → was it written to?
        self.read = self.written = self.made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        versions = {id(t): t._version for t in inputs}
        places = {t.untyped_storage().data_ptr() for t in inputs}
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        for t in outputs:
            if t.untyped_storage().data_ptr() not in places and not t.is_meta:
                self.made += t.untyped_storage().nbytes()
        if func.is_view or "empty" in func.name():
            return result  # nothing is read or written
        overwritten = {id(t) for t in (kwargs.get("out"),)}
        for t in inputs:
            self.touch(t, fetch=id(t) not in overwritten)
        for t in [*outputs, *(t for t in inputs if t._version != versions[id(t)])]:
            self.touch(t, fetch=False, dirty=True)
        return result

    def touch(self, tensor: Tensor, fetch: bool, dirty: bool = False) -> None:
        place = tensor.data_ptr(), tensor.nbytes
        if fetch and place not in self.cache:
            self.read += tensor.nbytes
        self.cache[place] = self.cache.pop(place, False) or dirty
        while sum(size for _, size in self.cache) > 8 * BLOCK * 4:
            self.evict()

    def evict(self) -> None:
        oldest = next(iter(self.cache))
        self.written += oldest[1] * self.cache.pop(oldest)


@pytest.fixture
def trained(monkeypatch):
    """A model, its penalty and an optimizer that has just stepped."""
    monkeypatch.setattr(blocks, "BLOCK", BLOCK)
    model = nn.Linear(WEIGHTS // 64, 64, bias=False)
    quadratic = QuadraticPenalty(model, {"weight": torch.rand(64, WEIGHTS // 64)}, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(3, WEIGHTS // 64)).square().sum().backward()
    optimizer.step()
    return quadratic, optimizer


def streams(call):
    """Traffic in units of reading all parameters once; and in new tensors, in blocks."""
    with Traffic() as traffic:
        call()
        while traffic.cache:
            traffic.evict()
    return (traffic.read + traffic.written) / (4 * WEIGHTS), traffic.made / (4 * BLOCK)


def test_gradient_takes_five_streams(trained):
    """θ, θ*, Ω and the gradient are read, the gradient is written; the value comes with it."""
    quadratic, _ = trained
    traffic, made = streams(quadratic.add_gradient)
    assert traffic < 5.2
    assert made < 2.5  # two spare blocks, and a sum for each block


def test_proximal_step_takes_four_streams(trained):
    """θ, θ* and Ω are read, θ is written; the value comes with it."""
    quadratic, optimizer = trained
    traffic, made = streams(lambda: quadratic.proximal_step(optimizer))
    assert traffic < 4.2
    assert made < 2.5  # two spare blocks, and a sum for each block


def test_value_takes_three_streams(trained):
    traffic, made = streams(trained[0].value)
    assert traffic < 3.2
    assert made < 2.5  # two spare blocks, and a sum for each block


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_the_last_block_may_be_smaller(monkeypatch, step):
    """And what is computed in it is no larger than it is: torch would warn, and make it so."""
    monkeypatch.setattr(blocks, "BLOCK", BLOCK)
    model = nn.Linear(BLOCK // 4, 10, bias=False)  # two blocks and a half
    omega, before = torch.rand_like(model.weight), model.weight.detach().clone()
    quadratic = QuadraticPenalty(model, {"weight": omega}, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(3, BLOCK // 4)).square().sum().backward()
    optimizer.step()
    moved, gradient = model.weight.detach() - before, model.weight.grad.clone()
    if step == "gradient":
        value, expected = quadratic.add_gradient(), moved
        torch.testing.assert_close(model.weight.grad, gradient + 0.5 * omega * moved)
    else:
        value, expected = quadratic.proximal_step(optimizer), moved / (1 + 0.1 * 0.5 * omega)
        torch.testing.assert_close(model.weight.detach() - before, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(value, 0.25 * (omega * expected.square()).sum())


def test_the_count_sees_temporaries(trained):
    """The same gradient written down plainly: two temporaries go through memory."""
    quadratic, _ = trained
    weight = quadratic._terms[0].parameter.detach()
    anchor, omega, gradient = quadratic.anchor["weight"], quadratic.omega["weight"], weight.clone()
    traffic, made = streams(lambda: gradient.add_(omega * (weight - anchor), alpha=0.5))
    assert traffic > 8
    assert made >= 2 * WEIGHTS / BLOCK
