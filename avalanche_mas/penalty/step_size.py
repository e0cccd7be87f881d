"""η: how far an optimizer goes, per unit of a gradient that stays the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer


def step_size(optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor) -> float | Tensor:
    """η: how far the optimizer moves a parameter at rest, per unit of gradient.

    For SGD with momentum m and dampening d, a constant gradient g leads to the velocity
    g(1−d)/(1−m), so η = lr(1−d)/(1−m), also with Nesterov's momentum. For Adam and AdamW it is
    lr/(√v̂+ε), another number for every parameter: the proximal step is taken in Adam's own metric.
    There v̂ knows the task's gradients only, so a strong penalty does not slow down the task.
    (AdamW's own weight decay w comes to rest where gradient + λΩ(θ−θ*) + w(√v̂+ε)θ = 0.)

    :param optimizer: SGD, Adam or AdamW.
    :param group: the parameter's group in it.
    :param parameter: a parameter that the optimizer has moved.
    :raises TypeError: for any other optimizer.
    """
    check_proximal(optimizer)
    lr = float(group["lr"])
    if isinstance(optimizer, SGD):
        momentum, dampening = float(group["momentum"]), float(group["dampening"])
        return lr * (1 - dampening) / (1 - momentum) if momentum else lr
    state = optimizer.state.get(parameter, {})
    if "exp_avg_sq" not in state:
        return 0.0  # the step was skipped, as a gradient scaler does: nothing has moved
    second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    correction = 1 - group["betas"][1] ** float(state["step"])
    root: Tensor = (second / correction).sqrt()
    return root.add_(float(group["eps"])).reciprocal_().mul_(lr)


def supports_proximal(optimizer: Optimizer) -> bool:
    """Whether :func:`step_size` knows this optimizer."""
    return isinstance(optimizer, (SGD, Adam, AdamW))


def check_proximal(optimizer: Optimizer) -> None:
    """Checks that the optimizer's step size is known.

    :raises TypeError: unless :func:`step_size` knows this optimizer.
    :raises ValueError: for SGD with a momentum of 1 or more, which never comes to rest.
    """
    if not supports_proximal(optimizer):
        raise TypeError(
            f"the proximal step is known for SGD, Adam and AdamW, not for "
            f"{type(optimizer).__name__}: use step='gradient'"
        )
    for group in optimizer.param_groups:
        if group.get("momentum", 0) >= 1:
            raise ValueError(
                f"SGD with momentum={group['momentum']} never comes to rest: its steps "
                "have no length that the penalty's could have. Give it a momentum below 1"
            )
