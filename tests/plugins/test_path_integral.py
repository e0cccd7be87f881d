"""ω of a path: parameters that grow or rest, optimizers, and small steps."""

import functools

import pytest
import torch
from avalanche.training.plugins import LRSchedulerPlugin
from tiny_avalanche import (
    FEATURES,
    Watch,
    assert_close,
    clusters,
    mlp,
    naive,
    split,
    train,
    weights,
)
from torch import nn, optim

from avalanche_mas.plugins import SIPlugin
from avalanche_mas.plugins.si.path_integral import PathIntegral

XI = 0.05
equal = functools.partial(assert_close, rtol=1e-10, atol=1e-12)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def stream():
    return split(dtype=torch.float64).train_stream


def test_a_path_over_a_growing_parameter():
    """New units start where they appear; the old ones' path goes on."""
    model = nn.Sequential(nn.Linear(3, 2))
    path = PathIntegral(model)
    start = model[0].weight.detach().clone()
    path.omega["0.weight"] += 1
    large = nn.Linear(3, 4)
    with torch.no_grad():
        large.weight[:2] = model[0].weight + 1
    model[0] = large
    path.bind(model)
    path.omega["0.weight"][2:] += 2
    omega = path.importance(xi=0.5)["0.weight"]
    torch.testing.assert_close(omega[:2], torch.ones(2, 3) / (1 + 0.5))
    torch.testing.assert_close(omega[2:], 2 * torch.ones(2, 3) / 0.5)
    assert torch.equal(path.start["0.weight"][:2], start)


@pytest.mark.parametrize("nesterov", [False, True])
def test_optimizers_that_overwrite_gradients(nesterov):
    """Nesterov's momentum is added into .grad itself while it steps."""
    model = nn.Linear(3, 2)
    options = {"momentum": 0.9, "nesterov": nesterov, "foreach": True}
    optimizer, path = optim.SGD(model.parameters(), lr=0.1, **options), PathIntegral(model)
    expected = torch.zeros(2, 3)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        g, old = model.weight.grad.clone(), model.weight.detach().clone()
        path.before_step()
        optimizer.step()
        path.after_step()
        expected -= g * (model.weight.detach() - old)
    torch.testing.assert_close(path.omega["weight"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_a_schedule_or_adam_makes_no_difference_to_the_equations(make, stream):
    """ω adds up to what the loss has lost along the path, if steps are small."""
    model, plugin = mlp(), SIPlugin(0.0)
    optimizer = make(model.parameters(), lr=0.02)
    for group in optimizer.param_groups:
        group["lr"] *= 1e-3
    schedule = LRSchedulerPlugin(optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    x, y = clusters(dtype=torch.float64)
    x, y = x[:20], y[:20]

    def loss(strategy):
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model(x), y))

    totals = Watch(
        "after_training_epoch", lambda s: float(sum(o.sum() for o in plugin.path.omega.values()))
    )
    losses = [loss(None)]
    strategy = naive(model, plugin, schedule, totals, optimizer=optimizer)
    strategy.train_mb_size = 20
    train(strategy, stream[:1])
    losses.append(loss(strategy))
    assert totals.seen[-1] == pytest.approx(losses[0] - losses[1], rel=0.05)
    assert totals.seen[-1] > 0


def test_a_step_counts_once():
    model = nn.Linear(3, 2)
    path = PathIntegral(model)
    model(torch.ones(1, 3)).sum().backward()
    path.before_step()
    with torch.no_grad():
        model.weight.sub_(0.5)
    for _ in range(2):
        path.after_step()
    torch.testing.assert_close(path.omega["weight"], torch.full((2, 3), 0.5))


class Sometimes(nn.Module):
    """A branch that only every second batch uses."""

    def __init__(self):
        super().__init__()
        self.main, self.branch, self.calls = nn.Linear(FEATURES, 6), nn.Linear(FEATURES, 6), 0

    def forward(self, x):
        self.calls += 1
        return self.main(x) + (self.branch(x) if self.calls % 2 else 0)


def test_a_parameter_without_a_gradient_takes_no_part_in_a_step(stream):
    """Nor does the gradient that it had in the step before."""
    model, plugin = Sometimes(), SIPlugin(1.0, xi=XI)
    start, expected = weights(model), {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    gradients = Watch("after_backward", lambda s: {n: p.grad for n, p in model.named_parameters()})
    before = Watch("after_backward", lambda s: weights(model))
    after = Watch("after_update", lambda s: weights(model))
    copies = Watch(
        "before_update",
        lambda s: {n: None if g is None else g.clone() for n, g in gradients.seen[-1].items()},
    )
    train(naive(model, plugin, gradients, before, after, copies, epochs=1), stream[:1])
    for g, old, new in zip(copies.seen, before.seen, after.seen, strict=True):
        for name in expected:
            if g[name] is not None:
                expected[name] -= g[name] * (new[name] - old[name])
    assert [g["branch.weight"] is None for g in copies.seen] == [False, True, False, True]
    end = weights(model)
    equal(
        plugin.importance,
        {n: o.clamp(min=0) / ((end[n] - start[n]) ** 2 + XI) for n, o in expected.items()},
    )
