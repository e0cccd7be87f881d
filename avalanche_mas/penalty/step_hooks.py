"""Hooks on an optimizer's step: a penalty acts whenever the optimizer does, whoever calls it.

So it acts once for gradients accumulated over several mini-batches, within every evaluation of a
closure, and not at all where a ``GradScaler`` leaves a step out. An optimizer gets unscaled
gradients from the scaler, except a fused one, which divides by the scale itself, see
:func:`unscale`. What a clipping of gradients sees is the task's gradient alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor
from torch.optim import LBFGS, Optimizer
from torch.utils.hooks import RemovableHandle

from avalanche_mas.penalty.step_size import check_proximal, supports_proximal

Step = Literal["auto", "proximal", "gradient"]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Hook = Callable[[Optimizer, tuple[Any, ...], dict[str, Any]], Any]
"""Called with the optimizer and the arguments of its ``step``."""


class StepHooks:
    """Hooks on the steps of one optimizer, until :meth:`remove`, or the end of a ``with``."""

    def __init__(self) -> None:
        self._optimizer: Optimizer | None = None
        self._handles: list[RemovableHandle] = []

    def register(
        self, optimizer: Optimizer, *, before: Hook | None = None, after: Hook | None = None
    ) -> StepHooks:
        """Registers the hooks, unless they are there already; those on another optimizer go.

        :param optimizer: whose steps matter from now on.
        :param before: called before each step; may return other ``(args, kwargs)`` for it.
        :param after: called after each step.
        :return: itself.
        """
        optimizer = innermost(optimizer)
        if self._optimizer is optimizer:
            return self
        self.remove()
        self._optimizer = optimizer
        if before is not None:
            self._handles.append(optimizer.register_step_pre_hook(before))
        if after is not None:
            self._handles.append(optimizer.register_step_post_hook(after))
        return self

    def remove(self) -> None:
        """Removes the hooks, if there are any."""
        for handle in self._handles:
            handle.remove()
        self._optimizer, self._handles = None, []

    def __enter__(self) -> StepHooks:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def innermost(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside what accelerate or Lightning put around it, which steps now and then.

    :param optimizer: any optimizer.
    """
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def is_proximal(step: Step, optimizer: Optimizer) -> bool:
    """Whether a penalty acts as a proximal step of this optimizer.

    :param step: the form that is asked for.
    :param optimizer: the one that will step.
    """
    return step == "proximal" or (step == "auto" and supports_proximal(innermost(optimizer)))


def check_form(step: Step) -> None:
    """Checks the form of a penalty's step.

    :param step: what is asked for.
    :raises ValueError: if it is unknown.
    """
    if step not in get_args(Step):
        raise ValueError(f"step must be 'auto', 'proximal' or 'gradient', got {step!r}")


def check_step(step: Step, optimizer: Optimizer) -> None:
    """Checks that a penalty can act on the steps of an optimizer.

    :param step: the form that is asked for.
    :param optimizer: the one that will step.
    :raises TypeError: for a proximal step of an optimizer whose step size is not known.
    :raises ValueError: for an unknown form, and for optimizers that would diverge.
    """
    check_form(step)
    optimizer = innermost(optimizer)
    if is_proximal(step, optimizer):
        check_proximal(optimizer)
    elif any(group.get("maximize") for group in optimizer.param_groups):
        raise ValueError(
            f"{type(optimizer).__name__}(maximize=True) would follow the penalty's gradient away "
            "from θ*: minimise minus the objective, or use step='proximal'"
        )
    searches = optimizer.param_groups[0].get("line_search_fn") is not None
    if isinstance(optimizer, LBFGS) and not searches:
        raise ValueError(
            "LBFGS without a line search diverges where the penalty's gradient is part of its "
            "closure and Ω is large: make it with line_search_fn='strong_wolfe'"
        )


def push(
    add_gradient: Callable[[], Tensor], optimizer: Optimizer, arguments: Arguments
) -> tuple[Arguments | None, Tensor | None]:
    """Gradient form, before a step: adds λΩ(θ−θ*) to gradients, those of a closure included.

    :param add_gradient: of the penalty.
    :param optimizer: about to step.
    :param arguments: of its step.
    :return: other arguments for the step, where they change, and the penalty's value, if known.
    """
    args, kwargs = arguments
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if closure is None:
        unscale(optimizer)
        return None, add_gradient()

    def with_penalty() -> Any:
        loss, value = closure(), add_gradient()
        return None if loss is None else loss + value

    return (args[:1], {**kwargs, "closure": with_penalty}), None


def pull(proximal_step: Callable[[Optimizer], Tensor], optimizer: Optimizer) -> Tensor | None:
    """Proximal form, after a step: pulls the parameters back towards θ*.

    :param proximal_step: of the penalty.
    :param optimizer: has stepped.
    :return: the penalty's value; None where the step was left out.
    """
    return None if is_skipped(optimizer) else proximal_step(optimizer)


def unscale(optimizer: Optimizer) -> None:
    """Divides gradients by the scale that a ``GradScaler`` has left to a fused optimizer.

    :param optimizer: about to step.
    """
    scale = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.div_(scale.to(parameter.grad.device))
        optimizer.grad_scale = None  # type: ignore[attr-defined]


def is_skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer leaves this step out: a ``GradScaler`` has found infinity or NaN.

    :param optimizer: in its step.
    """
    return bool(getattr(optimizer, "found_inf", 0))
