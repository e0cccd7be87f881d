"""Repairs of Avalanche 0.6.0 that users of this package need, each with its reason.

Importing :mod:`avalanche_mas.plugins` makes all of them. With ``AVALANCHE_MAS_REPAIR=0`` in the
environment it makes none; each can still be made by a call.
"""

import functools
import secrets
import sys
from typing import Any

import torch.optim
from avalanche.logging import WandBLogger
from avalanche.models import MultiTaskModule
from torch import Tensor


def repair_avalanche() -> None:
    """All repairs of this module; doing it again does nothing."""
    repair_checkpointing()
    repair_wandb()
    repair_autocast()


def repair_checkpointing() -> None:
    """Let Avalanche's ``save_checkpoint`` save strategies that hold a PyTorch optimizer.

    Avalanche pickles the whole strategy with dill. To store a class by its name, dill looks its
    module up as an attribute of the parent package, but ``torch/optim/__init__.py`` deletes these
    attributes (``del sgd``, ...). Dill therefore takes ``torch.optim.sgd.SGD`` for a class that
    cannot be imported and stores all that its code refers to, until it meets what cannot be stored:
    with PyTorch 2.15, ``PicklingError: Can't pickle sentinel``.

    The repair attaches the modules of ``torch.optim`` that are loaded but hidden, under the names
    that they have in ``sys.modules``. Nothing that exists is replaced, and doing it again does
    nothing. Loading a checkpoint needs no repair.
    """
    for name, module in list(sys.modules.items()):
        package, _, attribute = name.rpartition(".")
        if package == torch.optim.__name__ and not hasattr(torch.optim, attribute):
            setattr(torch.optim, attribute, module)


def repair_autocast() -> None:
    """Let Avalanche's multi-head models run under ``torch.autocast``.

    ``MultiTaskModule.forward`` writes what the heads return into a buffer of float32. Under
    autocast they return float16 or bfloat16, and PyTorch refuses: ``Index put requires the source
    and destination dtypes match``. With the repair the buffer has the dtype of the heads' output.
    Without autocast, and for a single task label, the method runs as it is; doing it again does
    nothing.
    """
    original = MultiTaskModule.forward
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def forward(self: Any, x: Tensor, task_labels: Tensor | int | None) -> Any:
        autocast = torch.is_autocast_enabled(x.device.type)
        if not autocast or not isinstance(task_labels, Tensor) or not len(task_labels):
            return original(self, x, task_labels)
        parts = []
        for task in torch.unique(task_labels).tolist():
            of_task = task_labels == task
            parts.append((of_task, self.forward_single_task(x[of_task], task)))
        padded = parts[0][1].new_zeros(len(x), self.max_class_label)
        for of_task, logits in parts:
            padded[of_task, : logits.shape[1]] = logits
        return padded

    MultiTaskModule.forward = forward


def repair_wandb() -> None:
    """Let Avalanche's ``WandBLogger`` log with the present releases of wandb.

    It asks for ``wandb.util.generate_id`` when it is made, and for ``wandb.viz`` with every value.
    Neither exists any more (with wandb 0.31, ``AttributeError`` in both places). The repair gives
    it what took their places when it imports wandb, which is not before a logger is made. What
    wandb has is not replaced, and doing it again does nothing.
    """
    original = WandBLogger.import_wandb
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def import_wandb(self: Any) -> None:
        original(self)
        if not hasattr(self.wandb.util, "generate_id"):
            self.wandb.util.generate_id = functools.partial(secrets.token_hex, 4)
        if not hasattr(self.wandb, "viz"):
            self.wandb.viz = self.wandb.plot

    WandBLogger.import_wandb = import_wandb
