r"""Several solutions of one network → one: incremental moment matching (Lee et al., NIPS 2017).

After task k the posterior of the parameters is taken for a Gaussian around the solution θ_k, with
the diagonal Fisher information F_k as its precision. The mixture Σ_k α_k q_k of these posteriors is
replaced by one point: its mean (mean-IMM, section 3.1 of the paper) or its mode (mode-IMM, 3.2),

.. math:: \theta = \sum_k \alpha_k \theta_k \qquad\text{or}\qquad
    \theta = \frac{\sum_k \alpha_k F_k \theta_k}{\sum_k \alpha_k F_k}.

A solution holds what its task has trained. Tensors may be missing from it, such as the head of
another task, or be smaller than in a later one, such as a head that grew. Each number is merged
over the tasks that have it, and their ratios are scaled to sum to 1 among themselves: a number that
one task alone has keeps its bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from avalanche_mas.importance.parameters import check_growth, wide_dtype


def mean_merge(
    solutions: Sequence[Mapping[str, Tensor]], ratios: Sequence[float] | None = None
) -> dict[str, Tensor]:
    """mean-IMM: θ = Σ α_k θ_k. With two equal ratios it is (θ_1 + θ_2)/2 to the bit.

    :param solutions: for each task, name → θ_k.
    :param ratios: α, positive numbers with sum 1, one for each task; None for equal ones.
    :return: name → θ, with the shape, dtype and device of the latest task that has it.
    :raises ValueError: for wrong ratios, or a tensor that shrank.

    >>> mean_merge([{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 2.0, 5.0])}])
    {'w': tensor([2., 2., 5.])}
    """
    return mode_merge(solutions, [{}] * len(solutions), ratios)


def mode_merge(
    solutions: Sequence[Mapping[str, Tensor]],
    fishers: Sequence[Mapping[str, Tensor]],
    ratios: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """mode-IMM: θ = Σ α_k F_k θ_k / Σ α_k F_k.

    Where no task has information, the mode is not defined and the mean takes its place: in each
    number whose Σ α_k F_k is 0 or so small that it has lost its precision (below the smallest
    normal number of its dtype, 1e-38 in float32), and in a tensor that lacks the F_k of a task.

    :param solutions: for each task, name → θ_k.
    :param fishers: for each task, name → F_k, of the shape of θ_k.
    :param ratios: α, positive numbers with sum 1, one for each task; None for equal ones.
    :return: name → θ, with the shape, dtype and device of the latest task that has it.
    :raises ValueError: for wrong ratios, or a tensor that shrank.

    >>> a, b = {"w": torch.tensor([0.0, 0.0])}, {"w": torch.tensor([4.0, 4.0])}
    >>> mode_merge([a, b], [{"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([1.0, 0.0])}])
    {'w': tensor([1., 2.])}
    """
    alpha = _checked(ratios, len(solutions))
    merged = {}
    for name in {name: None for solution in solutions for name in solution}:
        tasks = [k for k, solution in enumerate(solutions) if name in solution]
        thetas = [solutions[k][name] for k in tasks]
        for theta in thetas:
            check_growth(theta, thetas[-1].shape, name)
        known = all(name in fishers[k] for k in tasks)
        information = [fishers[k][name] for k in tasks] if known else None
        merged[name] = _merge(thetas, [alpha[k] for k in tasks], information)
    return merged


@torch.no_grad()
def _merge(
    thetas: Sequence[Tensor], alpha: Sequence[float], fishers: Sequence[Tensor] | None
) -> Tensor:
    """One tensor of all the tasks that have it."""
    latest = thetas[-1]
    zeros = torch.zeros_like(latest, dtype=wide_dtype(latest))
    parts = [tuple(slice(size) for size in theta.shape) for theta in thetas]

    def total(weights: Sequence[float | Tensor]) -> Tensor:
        """Σ_k of weights, in each number over the tasks that have it."""
        result = zeros.clone()
        for part, weight in zip(parts, weights, strict=True):
            result[part] += weight
        return result

    weights: list[float | Tensor] = list(alpha)
    if fishers is not None:
        scaled = [a * fisher.to(zeros) for a, fisher in zip(alpha, fishers, strict=True)]
        unknown = total(scaled) < torch.finfo(zeros.dtype).tiny
        weights = [
            torch.where(unknown[part], a, weight)
            for part, a, weight in zip(parts, alpha, scaled, strict=True)
        ]
    whole = total(weights)
    # Divided before they are multiplied: the share of a task that is alone is exactly 1.
    shares = [weight / whole[part] for part, weight in zip(parts, weights, strict=True)]
    products = [share * theta.to(zeros) for share, theta in zip(shares, thetas, strict=True)]
    return total(products).to(latest.dtype)


def _checked(ratios: Sequence[float] | None, tasks: int) -> list[float]:
    """α, or ones, which make equal shares without rounding."""
    if ratios is None:
        return [1.0] * tasks
    if len(ratios) != tasks:
        raise ValueError(f"{len(ratios)} ratios for {tasks} tasks: give one for each task")
    if not all(ratio > 0 for ratio in ratios) or not math.isclose(sum(ratios), 1, rel_tol=1e-6):
        raise ValueError(f"ratios must be positive and sum to 1, got {list(ratios)}")
    return [float(ratio) for ratio in ratios]
