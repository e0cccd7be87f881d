r"""Several quadratic penalties are one, so that a method may keep them all in constant memory.

Around two anchors a and b, with importances A and B, per parameter

.. math:: A (\theta-a)^2 + B (\theta-b)^2
    = (A+B) (\theta-\bar\theta)^2 + \frac{AB}{A+B} (b-a)^2,
    \qquad \bar\theta = \frac{Aa + Bb}{A+B}.

The last term moves no parameter. One penalty after the other is taken in like this, and what
remains after any number of tasks is one Ω, one anchor and one constant: value, gradient and
proximal step are those of the sum Σ_e (λ/2) Ω_e (θ−θ_e)² over all tasks e.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avalanche_mas.importance.parameters import grow, named_parameters, wide_dtype
from avalanche_mas.penalty.quadratic import QuadraticPenalty


class Collapsed(NamedTuple):
    """What :class:`.QuadraticPenalty` needs to know of penalties that became one."""

    anchor: dict[str, Tensor]
    """θ̄ by parameter name."""
    constant: float
    """What is left where θ = θ̄, in units of Σ Ω (θ−θ*)²."""


@torch.no_grad()
def collapse(
    penalty: QuadraticPenalty, model: nn.Module, importance: Mapping[str, Tensor]
) -> Collapsed:
    """Anchor and constant of ``penalty`` plus one more around the model's present parameters.

    Their Ω is the sum of both, so that the sum of the two penalties is::

        anchor, constant = collapse(penalty, model, new)
        total = total.add(new)
        penalty = QuadraticPenalty(model, total, lambda_reg, anchor=anchor, constant=constant)

    Where both Ω are 0 the anchor is the present parameter. Of a parameter that has grown, the old
    part keeps its anchor, and the new part had no importance. θ̄ is kept in the parameter's dtype;
    in bfloat16 it is exact up to that dtype's rounding.

    :param penalty: of the tasks so far.
    :param model: at the new task's solution θ.
    :param importance: Ω of the new task: parameter name → tensor. A parameter without one has 0.
    :raises ValueError: if a parameter shrank, or Ω does not fit its shape.
    """
    parameters = named_parameters(model)
    anchors: dict[str, Tensor] = {}
    constant = penalty.constant
    for name, old in penalty.omega.items():
        if name not in parameters:
            continue
        theta = parameters[name].detach().to(wide_dtype(parameters[name]))
        old = grow(old, theta.shape, name).to(theta)
        new = grow(importance.get(name, torch.zeros_like(old)), theta.shape, name).to(theta)
        anchor = theta.clone()
        corner = tuple(slice(size) for size in penalty.anchor[name].shape)
        anchor[corner] = penalty.anchor[name].to(theta)
        # the new penalty's share B/(A+B); where it is 0/0, all of it
        share = torch.where(old == 0, 1.0, new / (old + new))
        constant += float((old * share * (theta - anchor).square()).sum(dtype=torch.float64))
        anchors[name] = torch.lerp(anchor, theta, share).to(parameters[name].dtype)
    return Collapsed(anchors, constant)
