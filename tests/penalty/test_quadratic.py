"""The penalty against closed forms: where both steps come to rest, its value and its gradient.

The task here is a convex parabola ½(θ−a)ᵀH(θ−a), so that the minimiser of Eq. 3 is the solution of
a linear system, and every claim about optimizers is checked against the optimizers themselves.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from avalanche_mas import QuadraticPenalty

LAMBDA = 3.0


class Vector(nn.Module):
    """A model that is nothing but its parameters."""

    def __init__(self, *tensors):
        super().__init__()
        for i, tensor in enumerate(tensors):
            setattr(self, f"p{i}", nn.Parameter(tensor.clone()))


class Parabola:
    """½(θ−a)ᵀH(θ−a) in six dimensions, with a penalty of very unequal strength around θ*."""

    def __init__(self, strongest):
        generator = torch.Generator().manual_seed(1)
        rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
        curvature = torch.linspace(0.5, 2.0, 6, dtype=torch.float64)
        self.h = rotation @ torch.diag(curvature) @ rotation.T
        self.a = torch.randn(6, generator=generator, dtype=torch.float64)
        self.anchor = torch.randn(6, generator=generator, dtype=torch.float64)
        self.omega = torch.tensor([0.0, 0.0, 1e-3, 0.1, 1.0, strongest], dtype=torch.float64)

    def minimiser(self, weight_decay=0.0):
        """Where H(θ−a) + wd·θ + λΩ(θ−θ*) = 0."""
        system = self.h + torch.diag(LAMBDA * self.omega + weight_decay)
        return torch.linalg.solve(system, self.h @ self.a + LAMBDA * self.omega * self.anchor)

    def train(self, step, make_optimizer, steps):
        """θ after ``steps`` steps, started away from θ*."""
        model = Vector(self.anchor)
        penalty = QuadraticPenalty(model, {"p0": self.omega}, LAMBDA)
        with torch.no_grad():
            model.p0.add_(1.0)
        optimizer = make_optimizer(model.parameters())
        for _ in range(steps):
            difference = model.p0.detach() - self.a
            model.p0.grad = self.h @ difference
            if step == "gradient":
                penalty.add_gradient()
            optimizer.step()
            if step == "proximal":
                penalty.proximal_step(optimizer)
        return model.p0.detach()


SGD = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "dampening": {"momentum": 0.8, "dampening": 0.5},
    "dampening-without-momentum": {"dampening": 0.7},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "weight-decay": {"weight_decay": 0.3},
    "momentum-and-weight-decay": {"momentum": 0.9, "weight_decay": 0.3},
}


@pytest.mark.parametrize("step", ["proximal", "gradient"])
@pytest.mark.parametrize("options", SGD.values(), ids=SGD)
def test_sgd_comes_to_rest_at_the_minimiser(step, options):
    parabola = Parabola(strongest=3.0)
    theta = parabola.train(step, lambda p: optim.SGD(p, lr=0.05, **options), steps=1500)
    expected = parabola.minimiser(options.get("weight_decay", 0.0))
    torch.testing.assert_close(theta, expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(expected, parabola.a, atol=0.05)  # the penalty does something


@pytest.mark.parametrize("options", SGD.values(), ids=SGD)
def test_the_proximal_step_does_so_at_any_stiffness(options):
    parabola = Parabola(strongest=1e9)
    theta = parabola.train("proximal", lambda p: optim.SGD(p, lr=0.05, **options), steps=1500)
    expected = parabola.minimiser(options.get("weight_decay", 0.0))
    torch.testing.assert_close(theta, expected, rtol=1e-10, atol=1e-10)


ADAM = {
    "adam": (optim.Adam, {}),
    "adam-amsgrad": (optim.Adam, {"amsgrad": True}),
    "adam-weight-decay": (optim.Adam, {"weight_decay": 0.3}),
    "adamw": (optim.AdamW, {"weight_decay": 0.0}),
    "adamw-amsgrad": (optim.AdamW, {"weight_decay": 0.0, "amsgrad": True}),
}


@pytest.mark.parametrize("step", ["proximal", "gradient"])
@pytest.mark.parametrize(("kind", "options"), ADAM.values(), ids=ADAM)
def test_adam_comes_to_rest_at_the_minimiser(step, kind, options):
    """Adam's ε is large here: with a small one Adam itself never rests, with or without penalty."""
    parabola = Parabola(strongest=3.0)
    theta = parabola.train(step, lambda p: kind(p, lr=0.05, eps=0.3, **options), steps=3000)
    decay = options.get("weight_decay", 0.0)
    torch.testing.assert_close(theta, parabola.minimiser(decay), rtol=1e-9, atol=1e-9)


def test_adamw_decays_in_its_own_metric():
    """Decoupled decay moves the rest: H(θ−a) + λΩ(θ−θ*) + wd(√v̂+ε)θ = 0, v̂ of the task alone."""
    parabola = Parabola(strongest=3.0)
    options = {"betas": (0.9, 0.95), "eps": 0.3, "weight_decay": 0.2}
    theta = parabola.train("proximal", lambda p: optim.AdamW(p, lr=0.05, **options), steps=3000)
    task = parabola.h @ (theta - parabola.a)
    rest = task + LAMBDA * parabola.omega * (theta - parabola.anchor)
    rest += 0.2 * (task.abs() + 0.3) * theta
    assert rest.abs().max() < 1e-9


def test_adams_small_epsilon_keeps_the_step_where_the_task_has_no_gradient():
    """A task without gradient leaves v̂ = 0, so that η = lr/ε: the pull must not become NaN."""
    model = Vector(torch.zeros(3))
    penalty = QuadraticPenalty(model, {"p0": torch.tensor([0.0, 1.0, 1e-30])}, LAMBDA)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    with torch.no_grad():
        model.p0.fill_(1.0)
    model.p0.grad = torch.zeros(3)
    optimizer.step()
    penalty.proximal_step(optimizer)
    torch.testing.assert_close(model.p0.detach(), torch.tensor([1.0, 1 / (1 + 3e7), 1.0]))


@pytest.mark.parametrize("kind", [optim.RMSprop, optim.Adagrad, optim.NAdam, optim.LBFGS])
def test_other_optimizers_have_no_proximal_step(kind):
    model = Vector(torch.ones(2))
    penalty = QuadraticPenalty(model, {"p0": torch.ones(2)}, LAMBDA)
    with pytest.raises(TypeError, match=f"not for {kind.__name__}.*step='gradient'"):
        penalty.proximal_step(kind(model.parameters()))


@settings(max_examples=25)
@given(
    momentum=st.sampled_from([0.0, 0.3, 0.9, 0.97]),
    kind=st.sampled_from(["heavy ball", "dampened", "nesterov"]),
    lr=st.sampled_from([1e-3, 0.1, 7.0]),
    ratio=st.sampled_from([0.9, 0.97, 1.03, 1.2]),
)
def test_stiffness_is_above_one_exactly_when_gradient_descent_diverges(momentum, kind, lr, ratio):
    """Found out by running SGD itself on the penalty alone, below and above the limit."""
    dampening = 0.4 if kind == "dampened" else 0.0
    nesterov = kind == "nesterov" and momentum > 0
    model = Vector(torch.zeros(2, dtype=torch.float64))
    optimizer = optim.SGD(
        model.parameters(), lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov
    )
    unit = QuadraticPenalty(model, {"p0": torch.tensor([0.0, 2.0], dtype=torch.float64)}, 1.0)
    penalty = QuadraticPenalty(
        model, dict(unit.omega), lambda_reg=ratio / unit.stiffness(optimizer)
    )
    assert penalty.stiffness(optimizer) == pytest.approx(ratio)
    with torch.no_grad():
        model.p0.fill_(1.0)
    for _ in range(3000):
        model.p0.grad = torch.zeros(2, dtype=torch.float64)
        penalty.add_gradient()
        optimizer.step()
        if model.p0[1].abs() > 1e6:
            break
    size = float(model.p0[1].detach().abs())
    assert size > 1e6 if ratio > 1 else size < 1e-6
    assert model.p0[0] == 1.0


def test_stiffness_looks_at_each_group_by_itself():
    model = Vector(torch.zeros(1), torch.zeros(1))
    penalty = QuadraticPenalty(model, {"p0": torch.ones(1), "p1": 10 * torch.ones(1)}, 1.0)
    optimizer = optim.SGD([{"params": [model.p0], "lr": 3.0}, {"params": [model.p1], "lr": 0.1}])
    assert penalty.stiffness(optimizer) == pytest.approx(1.5)
    assert penalty.stiffness(optim.SGD([model.p1], lr=0.1)) == pytest.approx(0.5)
    assert penalty.stiffness(optim.Adam(model.parameters())) == 0.0


def test_stiffness_does_not_count_parameters_that_are_frozen_now():
    """They get no gradient, so nothing of them can diverge."""
    model = Vector(torch.zeros(1), torch.zeros(1))
    penalty = QuadraticPenalty(model, {"p0": torch.ones(1), "p1": 10 * torch.ones(1)}, 1.0)
    model.p1.requires_grad_(False)
    assert penalty.stiffness(optim.SGD(model.parameters(), lr=1.0)) == pytest.approx(0.5)


def test_each_group_steps_with_its_own_learning_rate_and_momentum():
    model = Vector(*[torch.zeros(2)] * 3)
    penalty = QuadraticPenalty(model, {f"p{i}": torch.ones(2) for i in range(3)}, 2.0)
    optimizer = optim.SGD(
        [
            {"params": [model.p0], "lr": 0.5},
            {"params": [model.p1], "lr": 0.1, "momentum": 0.8, "dampening": 0.5},
        ],
        lr=1.0,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros(2)
    optimizer.step()
    penalty.proximal_step(optimizer)
    torch.testing.assert_close(model.p0.detach(), torch.full((2,), 1 / (1 + 0.5 * 2)))
    torch.testing.assert_close(model.p1.detach(), torch.full((2,), 1 / (1 + 0.1 * 0.5 / 0.2 * 2)))
    assert model.p2.eq(1.0).all()  # in no group: the optimizer does not move it


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW])
def test_parameters_without_gradient_keep_their_bits(make):
    """As another task's head does, also where momentum and weight decay would move it."""
    model = Vector(torch.randn(4), torch.randn(4))
    penalty = QuadraticPenalty(model, {"p0": torch.ones(4), "p1": torch.ones(4)}, 1e3)
    options = {"momentum": 0.9} if make is optim.SGD else {}
    optimizer = make(model.parameters(), lr=0.1, weight_decay=0.1, **options)
    for use_both in (True, False, False):
        before = model.p1.detach().clone()
        model.p0.grad = torch.randn(4)
        model.p1.grad = torch.randn(4) if use_both else None
        penalty.add_gradient()
        optimizer.step()
        penalty.proximal_step(optimizer)
        assert torch.equal(model.p1.detach(), before) is not use_both


def test_bad_arguments():
    model = Vector(torch.zeros(2, 3))
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"lambda_reg must be.* got"):
            QuadraticPenalty(model, {"p0": torch.ones(2, 3)}, bad)
    with pytest.raises(ValueError, match=r"'p0'.*\(4, 3\) to \(2, 3\)"):
        QuadraticPenalty(model, {"p0": torch.ones(4, 3)})
    with pytest.raises(ValueError, match=r"'elsewhere'.*the model has 'p0'"):
        QuadraticPenalty(model, {"elsewhere": torch.ones(2, 3)})
