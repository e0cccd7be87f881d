"""The penalty's value, by itself and as what the two steps return."""

import pytest
import torch
from torch import nn

from avalanche_mas import QuadraticPenalty

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd, tensor by tensor": lambda p: torch.optim.SGD(p, lr=0.1, foreach=False),
    "sgd, fused": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adam, fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
}


def protected(lambda_reg=3.0, dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
    omega = {name: torch.rand_like(p) for name, p in model.named_parameters()}
    anchor = {name: p.detach().clone() for name, p in model.named_parameters()}

    def value():
        total = sum(
            (omega[name].double() * (p.double() - anchor[name].double()).square()).sum()
            for name, p in model.named_parameters()
        )
        return float(lambda_reg / 2 * total)

    return model, QuadraticPenalty(model, omega, lambda_reg), value


def backward(model):
    model.zero_grad()
    parameter = next(model.parameters())
    model(torch.randn(6, 5, dtype=parameter.dtype)).square().sum().backward()


@pytest.mark.parametrize("way", ["proximal", "gradient"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_value_follows_training(kind, way):
    model, penalty, expected = protected()
    optimizer = OPTIMIZERS[kind](model.parameters())
    for _ in range(5):
        backward(model)
        before = expected()
        if way == "gradient":
            assert float(penalty.add_gradient()) == pytest.approx(before, rel=1e-5)
        assert float(penalty.value()) == pytest.approx(before, rel=1e-5)
        optimizer.step()
        if way == "proximal":
            after = float(penalty.proximal_step(optimizer))
            assert after == pytest.approx(expected(), rel=1e-5)
        assert float(penalty.value()) == pytest.approx(expected(), rel=1e-5)
    assert expected() > 0


def test_parameters_without_a_gradient_count():
    """Another task's head has moved earlier and stays: the step leaves it, the value knows it."""
    model, penalty, expected = protected()
    with torch.no_grad():
        model[2].weight.add_(1)
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    backward(model)
    for p in model[2].parameters():
        p.grad = None
    assert float(penalty.add_gradient()) == pytest.approx(expected(), rel=1e-5)
    optimizer.step()
    assert float(penalty.proximal_step(optimizer)) == pytest.approx(expected(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype):
    model, penalty, expected = protected(dtype=dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    backward(model)
    with torch.no_grad():
        model[0].weight.add_(1)
    rel = 1e-12 if dtype == torch.float64 else 1e-5
    assert float(penalty.add_gradient()) == pytest.approx(expected(), rel=rel)
    optimizer.step()
    assert float(penalty.proximal_step(optimizer)) == pytest.approx(expected(), rel=rel)


def test_zero_lambda_has_value_zero():
    model, penalty, _ = protected(lambda_reg=0.0)
    backward(model)
    gradients = [p.grad.clone() for p in model.parameters()]
    with torch.no_grad():
        model[0].weight.add_(1)
    assert float(penalty.add_gradient()) == 0
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
