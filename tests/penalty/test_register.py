"""A penalty that follows an optimizer in loops of one's own, as people write them."""

import pytest
import torch
from torch import nn, optim

from avalanche_mas import QuadraticPenalty

STEPS = ["proximal", "gradient"]


def sgd(parameters):
    return optim.SGD(parameters, lr=0.1, momentum=0.5)


def task(parts=1):
    """A network, a penalty around where it is, and mini-batches of another task."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    omega = {name: torch.rand_like(p) for name, p in model.named_parameters()}
    x, y = torch.randn(24, 4).double(), torch.randint(0, 2, (24,))
    batches = list(zip(x.split(12 // parts), y.split(12 // parts), strict=True)) * 3
    return model, QuadraticPenalty(model, omega, 2.0), batches


def by_hand(step, make=sgd):
    """With the two calls, as the reference."""
    model, penalty, batches = task()
    optimizer = make(model.parameters())
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        if step == "gradient":
            penalty.add_gradient()
        optimizer.step()
        if step == "proximal":
            penalty.proximal_step(optimizer)
    return model


def assert_same(model, other):
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


class Accelerated(optim.Optimizer):
    """As accelerate's: around the user's optimizer, which steps after the last part only."""

    def __init__(self, optimizer, scaler):
        self.optimizer, self.scaler, self.is_last = optimizer, scaler, False

    def step(self, closure=None):
        if self.is_last:
            self.scaler.step(self.optimizer, closure)
            self.scaler.update()

    def zero_grad(self, set_to_none=True):
        if self.is_last:
            self.optimizer.zero_grad(set_to_none)

    @property
    def param_groups(self):
        return self.optimizer.param_groups


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("prepared", [True, False], ids=["the wrapper", "the optimizer inside"])
def test_accumulated_and_scaled_gradients(step, prepared):
    """Four parts make one step, whose gradients are unscaled by then."""
    model, penalty, batches = task(parts=4)
    inner, scaler = sgd(model.parameters()), torch.amp.GradScaler("cpu", 2.0**10)
    optimizer = Accelerated(inner, scaler)
    with penalty.register(optimizer if prepared else inner, step):
        for number, (x, y) in enumerate(batches):
            optimizer.is_last = number % 4 == 3
            scaler.scale(nn.functional.cross_entropy(model(x), y) / 4).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_same(model, by_hand(step))


@pytest.mark.parametrize("step", STEPS)
def test_a_closure_that_does_everything(step):
    """As Lightning's: ``optimizer.step(closure)``, by keyword, with all of the work inside."""
    model, penalty, batches = task()
    optimizer = sgd(model.parameters())
    with penalty.register(optimizer, step):
        for x, y in batches:

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss if step == "gradient" else None  # as where a step is left out

            optimizer.step(closure=closure)
    assert_same(model, by_hand(step))


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_a_scaler_skips(step):
    model, penalty, batches = task()
    optimizer, scaler = sgd(model.parameters()), torch.amp.GradScaler("cpu")
    with torch.no_grad():
        model[0].weight.add_(1.0)  # there is something to pull at
    before = [parameter.detach().clone() for parameter in model.parameters()]
    (x, y), *_ = batches
    with penalty.register(optimizer, step):
        scaler.scale(nn.functional.cross_entropy(model(x), y) * torch.inf).backward()
        scaler.step(optimizer)
    assert all(map(torch.equal, before, model.parameters()))


def test_the_task_is_over():
    """After ``remove()`` a step is the optimizer's alone."""
    model, penalty, _ = task()
    optimizer = sgd(model.parameters())
    penalty.register(optimizer).remove()
    with penalty.register(optimizer, "gradient"):
        assert optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


REFUSED = {
    "another step": (sgd, "prox", ValueError, "got 'prox'"),
    "no step size": (optim.RMSprop, "proximal", TypeError, "not for RMSprop"),
    "no line search": (optim.LBFGS, "auto", ValueError, "line_search_fn='strong_wolfe'"),
    "maximize": (
        lambda parameters: optim.SGD(parameters, maximize=True),
        "gradient",
        ValueError,
        r"SGD\(maximize=True\) would follow the penalty's gradient away",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    make, step, error, words = REFUSED[name]
    model, penalty, _ = task()
    optimizer = make(model.parameters())
    with pytest.raises(error, match=words):
        penalty.register(optimizer, step)
    assert not optimizer._optimizer_step_pre_hooks


def test_two_proximal_steps_are_refused():
    model, penalty, _ = task()
    optimizer = sgd(model.parameters())
    with penalty.register(optimizer):
        with pytest.raises(ValueError, match="takes a penalty's proximal step already"):
            penalty.register(optimizer)
        penalty.register(optimizer, "gradient").remove()
    penalty.register(optimizer)
