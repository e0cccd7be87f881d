"""y = x Wᵀ + b: ∂/∂W = Σ_t δ_t x_tᵀ and ∂/∂b = Σ_t δ_t, over the positions t of a sample."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from avalanche_mas.importance.rules.per_sample import Dense, Outer, PerSample
from avalanche_mas.importance.rules.registry import Call, Gradients, NoRule, decomposition, rule


@rule(functional.linear)
def linear(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Gradients:
    """Rule of ``F.linear``, which ``nn.Linear`` calls."""
    if call.axis(input).dim == input.dim() - 1 or weight.dim() != 2:
        raise NoRule("samples along the contracted dimension")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise NoRule("a bias that is broadcast")
    x = call.samples(input).flatten(1, -2)

    def gradients(delta: Tensor) -> Iterator[tuple[Tensor | None, PerSample]]:
        delta = delta.flatten(1, -2)
        yield bias, Dense(delta.sum(1) if delta.shape[1] > 1 else delta[:, 0])
        yield weight, Outer(delta, x)

    return gradients


def known_linear(input: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor) -> Tensor:
    """``F.linear(input, weight, bias)`` whose result is there; seen as torch's functions are.

    It is computed again where autograd is to know how it came about.

    :param result: what it is; not connected to ``weight`` and ``bias``.
    """
    given = input, weight, bias, result
    if has_torch_function(given):
        return handle_torch_function(known_linear, given, *given)
    wanted = any(tensor is not None and tensor.requires_grad for tensor in (weight, bias))
    if wanted and torch.is_grad_enabled():
        return functional.linear(input, weight, bias)
    return result


@rule(known_linear)
def known(
    call: Call, input: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor
) -> Gradients:
    """Rule of :func:`known_linear`."""
    return linear(call, input, weight, bias)


@rule(torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)
def matmul(call: Call, input: Tensor, other: Tensor) -> Gradients:
    """Rule of ``x @ W`` with a parameter on the right."""
    if other.dim() != 2 or input.dim() < 2:
        raise NoRule("a matrix product other than x @ W")
    return linear(call, input, other.t())


@rule(torch.addmm, Tensor.addmm)
def addmm(
    call: Call, input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Gradients:
    """Rule of ``b + x @ W``."""
    if beta != 1 or alpha != 1 or input.dim() != 1:
        raise NoRule("a scaled addmm")
    return linear(call, mat1, mat2.t(), input)


@decomposition(torch.bilinear)
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = Σ_ij x_i W_oij x′_j + b_o is linear in the products x_i x′_j."""
    products = input1.unsqueeze(-1) * input2.unsqueeze(-2)
    return functional.linear(products.flatten(-2), weight.flatten(1), bias)
