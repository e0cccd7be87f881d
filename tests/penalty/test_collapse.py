"""Several quadratic penalties as one: the same value, gradient and steps as their sum."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from avalanche_mas import Importance, QuadraticPenalty
from avalanche_mas.penalty.collapse import collapse

LAMBDA = 3.0
LR = 0.07


class Weights(nn.Module):
    """A model that is nothing but its parameters."""

    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            setattr(self, name, nn.Parameter(tensor.clone()))


class Sum:
    """The list of all tasks' Ω and solutions, as it grows without collapsing."""

    def __init__(self):
        self.tasks = []

    def add(self, model, importance):
        solution = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.tasks.append((dict(importance), solution))

    def value(self, model):
        """Σ_e (λ/2) Ω_e (θ−θ_e)², differentiable."""
        total = torch.zeros((), dtype=torch.float64)
        for importance, solution in self.tasks:
            for name, omega in importance.items():
                theta, old = getattr(model, name), solution[name]
                part = theta[tuple(slice(size) for size in old.shape)]
                total = total + LAMBDA / 2 * (omega * (part - old) ** 2).sum()
        return total

    def size(self, model, name):
        """Σ_e λ Ω_e (|θ|+|θ_e|): the numbers from which the gradient is what is left."""
        theta = getattr(model, name).detach().abs()
        return LAMBDA * sum(o[name] * (theta + s[name].abs()) for o, s in self.tasks)

    def curvature(self, name):
        return LAMBDA * sum(importance[name] for importance, _ in self.tasks)


def move(model, generator):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))


def random_importance(model, generator):
    """Of very different sizes, and 0 for some."""
    omega = {}
    for name, p in model.named_parameters():
        sizes = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        used = torch.rand(p.shape, generator=generator, dtype=torch.float64) < 0.7
        omega[name] = (5 * sizes).exp() * used
    return Importance(omega, samples=1)


def consolidated(penalty, total, model, new):
    """What a method does at the end of each task."""
    if penalty is None:
        return QuadraticPenalty(model, new, LAMBDA), new
    anchor, constant = collapse(penalty, model, new)
    total = total.add(new)
    return QuadraticPenalty(model, total, LAMBDA, anchor=anchor, constant=constant), total


def learnt(tasks, seed, dtype=torch.float64):
    """A model after some tasks, its collapsed penalty and the list of all penalties."""
    generator = torch.Generator().manual_seed(seed)
    model = Weights(a=torch.randn(3, 4, generator=generator).to(dtype), b=torch.zeros(5).to(dtype))
    penalty, total, naive = None, None, Sum()
    for _ in range(tasks):
        move(model, generator)
        new = random_importance(model, generator)
        naive.add(model, new)
        penalty, total = consolidated(penalty, total, model, new)
    return model, penalty, naive, generator


exact = {"rtol": 1e-10, "atol": 1e-10}


@settings(max_examples=30)
@given(tasks=st.integers(1, 10), seed=st.integers(0, 2**32 - 1))
def test_value_and_gradient_are_those_of_the_sum(tasks, seed):
    model, penalty, naive, generator = learnt(tasks, seed)
    for _ in range(2):  # at the last solution, and elsewhere
        expected = naive.value(model)
        torch.testing.assert_close(penalty.value(), expected.detach(), **exact)
        gradients = torch.autograd.grad(expected, list(model.parameters()))
        for p in model.parameters():
            p.grad = torch.ones_like(p)  # of the task
        torch.testing.assert_close(penalty.add_gradient(), expected.detach(), **exact)
        for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True):
            error = (p.grad - 1 - gradient).abs()
            assert (error <= 1e-10 * (1 + naive.size(model, name))).all()
        move(model, generator)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_anchor_is_the_weighted_mean_of_all_solutions(seed):
    """Where no task has marked a parameter, it is the latest solution."""
    model, penalty, naive, _ = learnt(10, seed)
    for name, p in model.named_parameters():
        weighted = sum(importance[name] * solution[name] for importance, solution in naive.tasks)
        total = sum(importance[name] for importance, _ in naive.tasks)
        expected = torch.where(total > 0, weighted / total, p.detach())
        torch.testing.assert_close(penalty.anchor[name], expected, **exact)


def test_the_proximal_step_is_that_of_the_sum():
    """θ minimises (1/2η)(θ−θ′)² plus all penalties: a linear equation for each parameter."""
    model, penalty, naive, generator = learnt(10, seed=0)
    move(model, generator)
    free = {n: p.detach().clone() for n, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    after = penalty.proximal_step(optim.SGD(model.parameters(), lr=LR))
    for name, p in model.named_parameters():
        pulls = sum(o[name] * s[name] for o, s in naive.tasks)
        expected = (free[name] / LR + LAMBDA * pulls) / (1 / LR + naive.curvature(name))
        torch.testing.assert_close(p.detach(), expected, **exact)
    torch.testing.assert_close(after, naive.value(model).detach(), **exact)


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_training_with_either_step_ends_where_the_sum_does(step):
    """A parabola as the task: H(θ−t) + Σ_e λΩ_e(θ−θ_e) = 0 is solved by hand."""
    generator = torch.Generator().manual_seed(2)
    model, penalty, naive = Weights(a=torch.zeros(6, dtype=torch.float64)), None, Sum()
    total = None
    for _ in range(4):
        move(model, generator)
        omega = torch.rand(6, generator=generator, dtype=torch.float64)
        new = Importance({"a": omega}, samples=1)
        naive.add(model, new)
        penalty, total = consolidated(penalty, total, model, new)
    target = torch.randn(6, generator=generator, dtype=torch.float64)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    for _ in range(1500):
        model.a.grad = (model.a - target).detach()
        if step == "gradient":
            penalty.add_gradient()
        optimizer.step()
        if step == "proximal":
            penalty.proximal_step(optimizer)
    pulls = LAMBDA * sum(o["a"] * s["a"] for o, s in naive.tasks)
    expected = (target + pulls) / (1 + naive.curvature("a"))
    torch.testing.assert_close(model.a.detach(), expected, **exact)


def test_where_nothing_is_important_the_anchor_is_the_present():
    model = Weights(a=torch.tensor([1.0, 2.0, 3.0]))
    penalty = QuadraticPenalty(model, {"a": torch.tensor([0.0, 0.0, 1.0])})
    with torch.no_grad():
        model.a.add_(4)
    anchor, constant = collapse(penalty, model, {"a": torch.tensor([0.0, 2.0, 0.0])})
    assert anchor["a"].tolist() == [5.0, 6.0, 3.0]
    assert constant == 0.0


def test_a_grown_parameter_keeps_the_anchor_of_its_old_part():
    small, naive = Weights(a=torch.randn(2, 3, dtype=torch.float64)), Sum()
    first = Importance({"a": torch.rand(2, 3, dtype=torch.float64)}, samples=1)
    naive.add(small, first)
    penalty = QuadraticPenalty(small, first, LAMBDA)
    large = Weights(a=torch.randn(4, 3, dtype=torch.float64))
    second = Importance({"a": torch.rand(4, 3, dtype=torch.float64)}, samples=1)
    naive.add(large, second)
    penalty, _ = consolidated(penalty, first, large, second)
    assert torch.equal(penalty.anchor["a"][2:], large.a.detach()[2:])
    with torch.no_grad():
        large.a.add_(torch.randn(4, 3, dtype=torch.float64))
    torch.testing.assert_close(penalty.value(), naive.value(large).detach(), **exact)


def test_parameters_that_only_one_task_knows():
    """A frozen one has no new Ω, and a new one no old: each keeps the anchor of its own task."""
    model = Weights(a=torch.randn(3, dtype=torch.float64))
    penalty = QuadraticPenalty(model, first := Importance({"a": torch.ones(3).double()}, samples=1))
    old = model.a.detach().clone()
    model = Weights(a=old + 1, b=torch.randn(2, dtype=torch.float64))
    new = Importance({"b": torch.ones(2).double()}, samples=1)
    penalty, _ = consolidated(penalty, first, model, new)
    assert torch.equal(penalty.anchor["a"], old)
    assert torch.equal(penalty.anchor["b"], model.b.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions(dtype):
    _, penalty, _, _ = learnt(10, seed=1, dtype=dtype)
    _, double, _, _ = learnt(10, seed=1)
    for name, anchor in penalty.anchor.items():
        assert anchor.dtype == dtype
        assert penalty.omega[name].dtype == torch.float32
        assert anchor.isfinite().all()
        if dtype == torch.float32:
            torch.testing.assert_close(anchor.double(), double.anchor[name], rtol=1e-3, atol=1e-3)


def test_memory_does_not_grow_with_the_number_of_tasks():
    def stored(tasks):
        _, penalty, _, _ = learnt(tasks, seed=0)
        tensors = [*penalty.anchor.values(), *penalty.omega.values()]
        others = [v for v in vars(penalty).values() if isinstance(v, torch.Tensor)]
        return sum(t.nbytes for t in tensors + others)

    assert stored(2) == stored(10) == 2 * 8 * (12 + 5)


def test_without_an_anchor_everything_is_as_before():
    model = Weights(a=torch.randn(3))
    ones = {"a": torch.ones(3)}
    plain = QuadraticPenalty(model, ones)
    given_ = QuadraticPenalty(model, ones, anchor={"a": model.a.detach()}, constant=2.0)
    assert torch.equal(plain.anchor["a"], given_.anchor["a"])
    assert given_.anchor["a"].data_ptr() != model.a.data_ptr()
    assert plain.value() == 0.0
    assert given_.value() == 1.0


def test_an_anchor_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"anchor of parameter 'a' has shape \(2,\).*\(3,\)"):
        QuadraticPenalty(
            Weights(a=torch.zeros(3)), {"a": torch.ones(3)}, anchor={"a": torch.ones(2)}
        )
