r"""How many parameters a penalty still leaves free.

Ω spans many orders of magnitude, and no share of its mean or of its maximum says when a parameter
is held: that depends on λ, on the optimizer and on how long it runs. Let a steady gradient g push a
parameter for N steps of size η, while the penalty pulls it back to θ*. It goes

.. math:: \theta_N - \theta^* = -\eta g \sum_{n=1}^{N} \frac{1}{(1 + \eta\lambda\Omega)^n}
    \;\to\; -\frac{g}{\lambda\Omega} \left(1 - e^{-\eta\lambda\Omega N}\right),

where without the penalty it would go −ηgN. The ratio of the two depends on ηλΩN alone as long as
ηλΩ is small. **A parameter is free if ηλΩN ≤ 1**: the penalty needs 1/(ηλΩ) steps to make itself
felt, which is more than there are. Such a parameter still goes at least half of its way (N = 1),
and 1 − 1/e = 63 % of it or more where N is large.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from avalanche_mas.importance.parameters import grow, named_parameters
from avalanche_mas.penalty.quadratic import QuadraticPenalty
from avalanche_mas.penalty.step_size import step_size, supports_proximal


@torch.no_grad()
def free_fraction(
    model: nn.Module, penalties: Iterable[QuadraticPenalty], optimizer: Optimizer, iterations: int
) -> float:
    """The fraction of the trainable parameters for which ηλΩN ≤ 1.

    Trainable are those that require a gradient and are in the optimizer. A parameter without Ω is
    free. With Adam and AdamW, η is another number for each parameter: what it is now.

    :param model: whose parameters are counted.
    :param penalties: those that act on it; their λΩ add up.
    :param optimizer: SGD, Adam or AdamW, for η, see
        :func:`~avalanche_mas.penalty.step_size.step_size`.
    :param iterations: N, how many steps will be taken.
    :return: a number in [0, 1]; NaN if nothing is trainable.
    :raises TypeError: for any other optimizer.
    :raises ValueError: if ``iterations`` is negative.
    """
    if not supports_proximal(optimizer):
        raise TypeError(
            "how many parameters are free depends on the optimizer's step, which is known for SGD, "
            f"Adam and AdamW, not for {type(optimizer).__name__}: leave this metric out"
        )
    if iterations < 0:
        raise ValueError(f"iterations must not be negative, got {iterations}")
    penalties = list(penalties)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    free = total = 0
    for name, parameter in named_parameters(model).items():
        if id(parameter) not in groups or not parameter.requires_grad:
            continue
        total += parameter.numel()
        rates = [
            penalty.lambda_reg * grow(penalty.omega[name], parameter.shape, name)
            for penalty in penalties
            if name in penalty.omega
        ]
        if not rates:
            free += parameter.numel()
            continue
        eta = step_size(optimizer, groups[id(parameter)], parameter)
        limit = torch.as_tensor(eta * iterations).reciprocal()  # infinite where nothing moves
        free += int((torch.stack(rates).sum(0) <= limit).sum())
    return free / total if total else float("nan")
