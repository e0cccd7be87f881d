"""The arithmetic of the penalty against autograd: every shape, layout, dtype, size of number."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from avalanche_mas import QuadraticPenalty

DTYPES = [torch.float64, torch.float32, torch.bfloat16]
LR = 0.25


class Holder(nn.Module):
    """A model of one parameter, which is kept as it is: strides and all."""

    def __init__(self, tensor):
        super().__init__()
        self.weight = nn.Parameter(tensor)


def close(actual, expected, dtype):
    """Equal up to a few roundings of ``dtype``."""
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        actual.detach().double(), expected, rtol=tolerance, atol=tolerance, check_stride=False
    )


def in_layout(tensor, layout):
    if layout == "channels_last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        back = list(reversed(range(tensor.dim())))
        return tensor.permute(back).contiguous().permute(back)
    if layout == "strided":  # every second number of a larger tensor: not dense
        return torch.stack([tensor, tensor], -1).select(-1, 0)
    return tensor


@st.composite
def problems(draw):
    """θ*, Ω, and a θ that is as large or larger in every dimension."""
    seed = draw(st.integers(0, 2**32 - 1))
    generator = torch.Generator().manual_seed(seed)
    small = draw(st.lists(st.integers(0, 4), max_size=4))
    large = [size + draw(st.integers(0, 2)) for size in small]
    dtype = draw(st.sampled_from(DTYPES))
    layouts = st.sampled_from(["contiguous", "channels_last", "transposed", "strided"])
    anchor = in_layout(torch.randn(small, generator=generator).to(dtype), draw(layouts))
    omega = in_layout(torch.rand(small, generator=generator).double() * 10, draw(layouts))
    theta = in_layout(torch.randn(large, generator=generator).to(dtype), draw(layouts))
    return anchor, omega.to(draw(st.sampled_from([torch.float64, torch.float32]))), theta


def grown(anchor, omega, theta, lambda_reg):
    """The penalty of a model whose weight was ``anchor`` and is ``theta`` now."""
    penalty = QuadraticPenalty(Holder(anchor), {"weight": omega}, lambda_reg)
    model = Holder(theta.clone(memory_format=torch.preserve_format))
    penalty.bind(model)
    return penalty, model


@given(problems(), st.sampled_from([1e-3, 1.0, 30.0]))
def test_value_and_gradient_are_those_of_autograd(problem, lambda_reg):
    anchor, omega, theta = problem
    penalty, model = grown(anchor, omega, theta, lambda_reg)
    task = torch.ones_like(model.weight)
    model.weight.grad = task.clone(memory_format=torch.preserve_format)
    penalty.add_gradient()

    naive = theta.double().requires_grad_()
    old = naive[tuple(slice(size) for size in anchor.shape)]
    expected = lambda_reg / 2 * (omega.double() * (old - anchor.double()) ** 2).sum()
    expected.backward()
    # the penalty keeps Ω in float32 unless θ is float64
    wide = torch.float64 if theta.dtype == torch.float64 == omega.dtype else torch.float32
    torch.testing.assert_close(
        penalty.value().double(), expected.detach(), rtol=1e3 * torch.finfo(wide).eps, atol=1e-30
    )
    close(model.weight.grad, naive.grad + task.double(), theta.dtype)


@given(problems(), st.sampled_from([1e-3, 1.0, 30.0]))
def test_the_proximal_step_is_its_formula(problem, lambda_reg):
    anchor, omega, theta = problem
    penalty, model = grown(anchor, omega, theta, lambda_reg)
    model.weight.grad = torch.zeros_like(model.weight)
    penalty.proximal_step(optim.SGD(model.parameters(), lr=LR))
    expected = theta.double()
    old = expected[tuple(slice(size) for size in anchor.shape)]
    old.copy_(anchor + (old - anchor) / (1 + LR * lambda_reg * omega.double()))
    close(model.weight, expected, theta.dtype)


def test_a_parameter_larger_than_the_cpu_block():
    """Blocks must fit together: nothing twice, nothing left out, also in the last, short one."""
    shape = (3, 2**18 + 1)
    anchor, theta = torch.randn(shape), torch.randn(shape)
    omega = torch.rand(shape)
    penalty, model = grown(anchor, omega, theta, 2.0)
    difference = theta.double() - anchor.double()
    np.testing.assert_allclose(
        float(penalty.value()), float((omega.double() * difference.square()).sum()), rtol=1e-5
    )
    model.weight.grad = torch.zeros(shape)
    penalty.add_gradient()
    torch.testing.assert_close(model.weight.grad, 2 * omega * (theta - anchor))
    penalty.proximal_step(optim.SGD(model.parameters(), lr=LR))
    expected = anchor + (theta - anchor) / (1 + LR * 2 * omega)
    torch.testing.assert_close(model.weight.detach(), expected)


OMEGAS = [0.0, 1e-30, 1e-6, 1.0, 1e8, 1e30]


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lambda_reg", [0.0, 1e-30, 1.0, 1e8, 1e30])
def test_no_strength_makes_a_number_that_is_none(make, dtype, lambda_reg):
    """Ω = 0 leaves the optimizer's own bits; ηλΩ beyond the dtype's precision gives θ* exactly."""
    omega = torch.tensor(OMEGAS).repeat(3)
    anchor = torch.randn(omega.shape).to(dtype)
    free, held = Holder(anchor.clone()), Holder(anchor.clone())
    penalty = QuadraticPenalty(held, {"weight": omega}, lambda_reg)
    optimizers = [make(model.parameters(), lr=0.1, weight_decay=0.01) for model in (free, held)]
    for _ in range(3):
        gradient = torch.randn(omega.shape).to(dtype)
        for model, optimizer in zip((free, held), optimizers, strict=True):
            model.weight.grad = gradient.clone()
            optimizer.step()
        # from the same point with the same optimizer state, what is free must move in the same way
        penalty.proximal_step(optimizers[1])
        assert held.weight.isfinite().all()
        assert not penalty.value().isnan()
        unmarked = omega * lambda_reg == 0
        assert torch.equal(held.weight[unmarked], free.weight[unmarked])
        marked = omega.double() * lambda_reg > 1e25
        assert torch.equal(held.weight[marked], anchor[marked])


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_a_strength_beyond_float32_is_refused_or_harmless(make):
    """Ω = 0 times an infinite ηλ would be NaN."""
    model = Holder(torch.ones(2))
    optimizer = make(model.parameters(), lr=0.1)
    try:
        penalty = QuadraticPenalty(model, {"weight": torch.tensor([0.0, 1.0])}, 1e300)
    except ValueError:
        return
    model.weight.grad = torch.zeros(2)
    penalty.add_gradient()
    assert model.weight.grad.isfinite().all()
    optimizer.step()
    penalty.proximal_step(optimizer)
    assert model.weight.isfinite().all()
    assert penalty.value() == 0


@pytest.mark.parametrize("lambda_reg", [0.0, 1e-30, 1e8, 1e30])
def test_a_parameter_at_its_anchor_stays_there(lambda_reg):
    """Neither form has a pull to give, however strong: 0 · ∞ must not arise."""
    model = Holder(torch.randn(len(OMEGAS)))
    start = model.weight.detach().clone()
    penalty = QuadraticPenalty(model, {"weight": torch.tensor(OMEGAS)}, lambda_reg)
    model.weight.grad = torch.zeros(len(OMEGAS))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    penalty.add_gradient()
    assert not model.weight.grad.any()
    optimizer.step()
    penalty.proximal_step(optimizer)
    assert torch.equal(model.weight.detach(), start)
    assert penalty.value() == 0


def test_a_model_that_changes_its_dtype_keeps_it():
    """The penalty was made in float32; afterwards the model is trained on in float64."""
    model = Holder(torch.randn(8))
    penalty = QuadraticPenalty(model, {"weight": torch.tensor([0.0] * 4 + [1.0] * 4)}, 2.0)
    anchor = model.weight.detach().double()
    model.double()
    theta = torch.randn(8, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(theta)
    model.weight.grad = torch.zeros(8, dtype=torch.float64)
    penalty.bind(model)
    penalty.proximal_step(optim.SGD(model.parameters(), lr=LR))
    assert torch.equal(model.weight[:4].detach(), theta[:4])  # Ω = 0 keeps the bits
    expected = anchor[4:] + (theta[4:] - anchor[4:]) / (1 + LR * 2)
    torch.testing.assert_close(model.weight[4:].detach(), expected, rtol=1e-12, atol=1e-12)


def test_a_vanished_parameter_is_named_and_dropped():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    penalty = QuadraticPenalty(model, {n: torch.ones_like(p) for n, p in model.named_parameters()})
    with pytest.warns(UserWarning, match=r"1\.weight, 1\.bias"):
        penalty.bind(nn.Sequential(model[0]))
    assert set(penalty.anchor) == {"0.weight", "0.bias"}
    assert penalty.value() == 0
