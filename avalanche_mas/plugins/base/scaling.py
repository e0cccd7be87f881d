"""fp16 training: gradients that a gradient scaler has enlarged, and steps that it skips.

With float16 autocast a loss is multiplied by some 2¹⁶ before its backward pass, so that small
gradients do not vanish. An Avalanche strategy with a scaler is a subclass such as::

    class Scaled(Naive):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.scaler = torch.amp.GradScaler(self.device.type)

        def forward(self):
            with torch.autocast(self.device.type, torch.float16):
                return super().forward()

        def criterion(self):
            with torch.autocast(self.device.type, torch.float16):
                return super().criterion()

        def backward(self):
            self.scaler.scale(self.loss).backward()

        def optimizer_step(self):
            self.scaler.step(self.optimizer)
            self.scaler.update()

The penalty and the path integral of this package are those of the true gradients. They need the
scaler in an attribute of the strategy, and ``update`` in its ``optimizer_step``, as above.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from torch.amp import GradScaler


class ScaledStep:
    """One iteration of a strategy, which may have a gradient scaler."""

    def __init__(self) -> None:
        self._scale: float | None = None

    def unscale(self, strategy: Any) -> None:
        """After the backward pass: makes the gradients true, unless somebody has done so before."""
        scaler = _scaler(strategy)
        self._scale = None if scaler is None else scaler.get_scale()
        if scaler is not None:
            with suppress(RuntimeError):  # "has already been called"
                scaler.unscale_(strategy.optimizer)

    def was_skipped(self, strategy: Any) -> bool:
        """After the update: whether the scaler has left out the step, as infinity makes it do."""
        scaler = _scaler(strategy)
        return scaler is not None and self._scale is not None and scaler.get_scale() < self._scale


def _scaler(strategy: Any) -> GradScaler | None:
    for value in vars(strategy).values():
        if isinstance(value, GradScaler) and value.is_enabled():
            return value
    return None
