r"""Eq. 1-2: what of the network is differentiated, and what of each sample's gradient is summed.

.. math:: \Omega_{ij} = \frac{1}{N} \sum_{k=1}^{N} | g_{ij}(x_k) |, \qquad
    g_{ij}(x_k) = \frac{\partial \lVert F(x_k; \theta) \rVert_2^2}{\partial \theta_{ij}}

g is how much the squared length of the output changes with a parameter, to first order in a small
change δ of the parameters, as Eq. 1 says it of F itself: F(x; θ+δ) − F(x; θ) ≈ Σ_ij g_ij(x) δ_ij.

The four parts of the equation stand here once each, for every engine and for the reference:

* what is differentiated: a backward pass starts from ∂‖F‖²/∂F = 2F (:attr:`Objective.starts`);
* the magnitude: |g| (:attr:`Objective.magnitude`);
* the sum over the samples k (:func:`add_samples`);
* the mean, 1/N (:func:`mean`).

Where F has several outputs F_c, section 4.1 takes the length of the gradient vector over them
instead, ‖∂F(x_k)/∂θ_ij‖₂ = √Σ_c (∂F_c/∂θ_ij)²: a backward pass for each c, squares, and a root for
each sample. Without the root, and with F_c = log p_c, these are the squares that a diagonal Fisher
information is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Output = Literal["norm", "vector", "squares"]
Start = tuple[list[Tensor], list[Tensor]]
"""Where a backward pass begins: outputs, and the gradient at each of them."""


class Magnitude(Protocol):
    """What is taken of each gradient: ``torch.abs`` for MAS, ``torch.square`` for squares.

    It is elementwise and multiplicative, f(ab) = f(a)f(b).
    """

    def __call__(self, input: Tensor, *, out: Tensor | None = None) -> Tensor:
        """f(input), written to ``out`` if given, which may be ``input`` itself."""


@dataclass(frozen=True)
class Objective:
    """An importance: Ω = (1/N) Σ_k root(Σ_p magnitude(g_kp)), over a sample's backward passes p.

    :param starts: outputs of F, (B, ...) each → where its backward passes begin.
    :param magnitude: of each pass's gradient.
    :param root: taken of each sample's sum over the passes; None for the sum itself.
    """

    starts: Callable[[list[Tensor]], Iterator[Start]]
    magnitude: Magnitude
    root: Callable[[Tensor], Tensor] | None = None

    @property
    def passes_are_kept(self) -> bool:
        """Whether a sample's passes must be added up before the samples are."""
        return self.root is not None


def _of_squared_norm(outputs: list[Tensor]) -> Iterator[Start]:
    """∂‖F‖²/∂F = 2F: one backward pass."""
    yield outputs, [2 * output.detach() for output in outputs]


def _of_each_output(outputs: list[Tensor]) -> Iterator[Start]:
    """∂F_c/∂F = 1 at output c and 0 elsewhere: a backward pass for each c."""
    for output in outputs:
        flat = output.detach().reshape(len(output), -1)
        for c in range(flat.shape[1]):
            start = torch.zeros_like(flat)
            start[:, c] = 1
            yield [output], [start.view(output.shape)]


OBJECTIVES: dict[Output, Objective] = {
    "norm": Objective(_of_squared_norm, torch.abs),
    "vector": Objective(_of_each_output, torch.square, root=torch.sqrt),
    "squares": Objective(_of_each_output, torch.square),
}
"""By the names that :func:`~avalanche_mas.estimate_importance` gives them."""


def add_samples(total: Tensor, magnitudes: Tensor) -> None:
    """total += Σ_k magnitudes_k, for magnitudes of shape (B, *total)."""
    total.add_(magnitudes.sum(0, dtype=total.dtype))


def mean(total: Tensor, samples: int, *, out: Tensor | None = None) -> Tensor:
    """Ω = (1/N) Σ_k, as a new tensor or written to ``out``, which may be ``total`` itself."""
    return torch.div(total, samples, out=out)
