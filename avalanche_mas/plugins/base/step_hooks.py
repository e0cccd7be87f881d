"""Hooks on an optimizer's step: a penalty acts whenever the optimizer does, whoever calls it.

So it acts once for gradients accumulated over several mini-batches, within every evaluation of a
closure, and not at all where a ``GradScaler`` leaves a step out. An optimizer gets unscaled
gradients from the scaler, except a fused one, which divides by the scale itself, see
:func:`unscale`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

Hook = Callable[[Optimizer, tuple[Any, ...], dict[str, Any]], Any]
"""Called with the optimizer and the arguments of its ``step``."""


class StepHooks:
    """The hooks of one plugin on one optimizer."""

    def __init__(self) -> None:
        self._optimizer: Optimizer | None = None
        self._handles: list[RemovableHandle] = []

    def register(
        self, optimizer: Optimizer, *, before: Hook | None = None, after: Hook | None = None
    ) -> None:
        """Registers the hooks, unless they are there already; those on another optimizer go.

        :param optimizer: whose steps matter from now on.
        :param before: called before each step; may return other ``(args, kwargs)`` for it.
        :param after: called after each step.
        """
        if self._optimizer is optimizer:
            return
        self.remove()
        self._optimizer = optimizer
        if before is not None:
            self._handles.append(optimizer.register_step_pre_hook(before))
        if after is not None:
            self._handles.append(optimizer.register_step_post_hook(after))

    def remove(self) -> None:
        """Removes the hooks, if there are any."""
        for handle in self._handles:
            handle.remove()
        self._optimizer, self._handles = None, []


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
