r"""The way back from a weight that is computed from parameters, sample by sample.

A weight W = f(v), such as a normalised or an orthogonal one, is the same for all samples, and so is
its Jacobian J. The gradients of v are Jᵀ g_k for each sample k. Where g_k comes in factors, they
stay factors as far as possible: for W = A B, :math:`\sum_t \delta_t x_t^T` becomes
:math:`\sum_t \delta_t (B x_t)^T` for A. Other functions go back by autograd, for many samples at a
time (:class:`~avalanche_mas.importance.rules.per_sample.Pullback`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from inspect import Signature, signature
from math import lgamma, log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avalanche_mas.importance.rules.per_sample import (
    Along,
    Dense,
    Outer,
    PerSample,
    RowsWithoutPart,
    Scaled,
    Sum,
)
from avalanche_mas.importance.rules.registry import NoRule

Back = Callable[..., Iterable[tuple[Tensor, PerSample]]]
"""The gradients of f(v, ...), that, and the arguments of f → those of each argument."""

_MOST_NODES = 32
_backs: dict[Callable[..., Any], tuple[Back, Signature]] = {}


def back(*functions: Callable[..., Any]) -> Callable[[Back], Back]:
    """Registers the decorated function as the way back through torch functions."""

    def register(way: Back) -> Back:
        for function in functions:
            _backs[function] = way, signature(way)
        return way

    return register


def go_back(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], gradients: Sum
) -> list[tuple[Tensor, PerSample]] | None:
    """The gradients of a function's arguments from those of its result; None if not known."""
    if function not in _backs or any(isinstance(a, Tensor) and a.is_complex() for a in args):
        return None
    way, parameters = _backs[function]
    try:
        given = parameters.bind(gradients, *args, **kwargs)
    except TypeError:  # arguments that the way back does not take
        return None
    try:
        return list(way(*given.args, **given.kwargs))
    except NoRule:
        return None


def _whole(gradients: Sum) -> PerSample:
    whole = gradients.whole
    if whole is None:
        raise NoRule("its parts have gradients of different forms")
    return whole


def _factors(gradients: Sum, *others: Tensor) -> tuple[Outer, list[Tensor]]:
    """δ and x, and other tensors without their gradients, in one dtype: autocast mixes them."""
    whole = _whole(gradients)
    if not isinstance(whole, Outer):
        raise NoRule("gradients that do not come in factors")
    dtype = reduce(torch.promote_types, (other.dtype for other in others), whole.x.dtype)
    given = Outer(whole.delta.to(dtype), whole.x.to(dtype))
    return given, [other.detach().to(dtype) for other in others]


@back(torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)
def _product(gradients: Sum, a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, PerSample]]:
    """W = A B: Σ_t δ_t (B x_t)ᵀ for A and Σ_t (Aᵀ δ_t) x_tᵀ for B."""
    if a.dim() != 2 or b.dim() != 2:
        raise NoRule("a product of other than matrices")
    given, (first, second) = _factors(gradients, a, b)
    if a.requires_grad:
        yield a, Outer(given.delta, given.x @ second.t())
    if b.requires_grad:
        yield b, Outer(given.delta @ first, given.x)


@back(torch.mv, Tensor.mv)
def _map(gradients: Sum, matrix: Tensor, vector: Tensor) -> Iterator[tuple[Tensor, PerSample]]:
    """y = M v: δ vᵀ for M."""
    if vector.requires_grad:
        raise NoRule("a vector that is computed from parameters")
    delta = gradients.dense(0, gradients.size).unsqueeze(1)
    yield matrix, Outer(delta, vector.detach().expand(len(delta), 1, -1))


@back(torch.dot, torch.vdot, Tensor.dot, Tensor.vdot)
def _dot(gradients: Sum, a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, PerSample]]:
    """y = aᵀ b: δ b for a and δ a for b."""
    delta = gradients.dense(0, gradients.size).unsqueeze(1)
    if a.requires_grad:
        yield a, Dense(delta * b.detach())
    if b.requires_grad:
        yield b, Dense(delta * a.detach())


@back(torch.div, torch.true_divide, Tensor.div, Tensor.__truediv__)
def _quotient(gradients: Sum, a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, PerSample]]:
    """W = A / s: δ_t / s and x_t for A, and −Σ_t δ_tᵀ A x_t / s² for the number s."""
    if not isinstance(b, Tensor) or b.dim() or not isinstance(a, Tensor):
        raise NoRule("a quotient by other than one number")
    given, (numerator, s) = _factors(gradients, a, b)
    if a.requires_grad:
        yield a, Outer(given.delta / s, given.x)
    if b.requires_grad:
        along = (given.delta * (given.x @ numerator.t())).flatten(1).sum(1)
        yield b, Dense(-along / s.square())


@back(torch.sub, Tensor.sub, Tensor.__sub__)
def _difference(gradients: Sum, a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, PerSample]]:
    """W = A − B: −δ_t for B."""
    given, _ = _factors(gradients)
    for part, sign in (a, 1), (b, -1):
        if isinstance(part, Tensor) and part.requires_grad:
            if part.shape != gradients.parameter.shape:
                raise NoRule("a parameter that is broadcast")
            yield part, Outer(sign * given.delta, given.x)


def _triangle_of(function: Callable[..., Tensor]) -> Back:
    def way(gradients: Sum, a: Tensor, diagonal: int = 0) -> Iterator[tuple[Tensor, PerSample]]:
        """W = A where it is kept, 0 elsewhere."""
        yield a, Scaled(_whole(gradients), function(torch.ones_like(a), diagonal))

    return way


back(torch.tril, Tensor.tril)(_triangle_of(torch.tril))
back(torch.triu, Tensor.triu)(_triangle_of(torch.triu))


@back(torch.matrix_exp, Tensor.matrix_exp, torch.linalg.matrix_exp)
def _exponential(gradients: Sum, a: Tensor) -> Iterator[tuple[Tensor, PerSample]]:
    r"""W = exp A.

    .. math:: J^T [\delta x^T] = \int_0^1 (e^{s A^T} \delta) (e^{(1-s) A} x)^T \, ds

    by Gauss-Legendre quadrature, whose error is below round-off: each node is a position.
    """
    given, (exponent,) = _factors(gradients, a)
    s, weights = _nodes(exponent)
    powers = torch.matrix_exp(s.view(-1, 1, 1) * exponent)  # e^{sA}; the nodes lie symmetrically
    delta = torch.einsum("nij,bti->btnj", powers * weights.view(-1, 1, 1), given.delta)
    x = torch.einsum("nij,btj->btni", powers.flip(0), given.x)
    yield a, Outer(delta.flatten(1, 2), x.flatten(1, 2))


def _nodes(a: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1] for the integral over s of e^{sAᵀ} G e^{(1−s)Aᵀ}.

    With q nodes the error is below ‖G‖ e^‖A‖ (2‖A‖)^2q (q!)⁴ / ((2q + 1) ((2q)!)³).
    """
    norm = float(torch.linalg.matrix_norm(a, 2)) if a.numel() else 0.0
    enough = log(torch.finfo(a.dtype).eps)
    for q in range(1, _MOST_NODES + 1):
        error = 2 * q * log(2 * norm or 1e-300) + 4 * lgamma(q + 1) - 3 * lgamma(2 * q + 1)
        if norm + error < enough:
            s, weights = np.polynomial.legendre.leggauss(q)
            return torch.from_numpy((s + 1) / 2).to(a), torch.from_numpy(weights / 2).to(a)
    raise NoRule("a large exponent")


@back(torch._weight_norm)
def _normalised(
    gradients: Sum, v: Tensor, g: Tensor, dim: int = 0
) -> Iterator[tuple[Tensor, PerSample]]:
    """W = g v / ‖v‖ by rows: g / ‖v‖ (G − v̂ v̂ᵀG) for v, and v̂ᵀG for g."""
    if dim != 0 or v.dim() < 2:
        raise NoRule("other norms than of rows")
    given, values = _whole(gradients), v.detach()
    norms = torch.linalg.vector_norm(values.flatten(1), dim=1).view_as(g)
    direction, along = values / norms, None
    if isinstance(given, Outer):
        factors, (u,) = _factors(gradients, direction)
        along = (factors.delta * (factors.x @ u.t())).sum(1)
    rows = RowsWithoutPart(given, direction, along)
    yield v, Scaled(rows, (g.detach() / norms).expand_as(v))
    yield g, Along(rows, g.shape)
