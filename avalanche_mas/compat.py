"""Repairs of Avalanche 0.6.0 that users of this package need, each with its reason."""

import sys

import torch.optim


def repair_checkpointing() -> None:
    """Let Avalanche's ``save_checkpoint`` save strategies that hold a PyTorch optimizer.

    Avalanche pickles the whole strategy with dill. To store a class by its name, dill looks its
    module up as an attribute of the parent package, but ``torch/optim/__init__.py`` deletes these
    attributes (``del sgd``, ...). Dill therefore takes ``torch.optim.sgd.SGD`` for a class that
    cannot be imported and stores all that its code refers to, until it meets what cannot be stored:
    with PyTorch 2.15, ``PicklingError: Can't pickle sentinel``.

    The repair attaches the modules of ``torch.optim`` that are loaded but hidden, under the names
    that they have in ``sys.modules``. Nothing that exists is replaced, and doing it again does
    nothing. Loading a checkpoint needs no repair. Importing ``avalanche_mas.plugins`` calls this.
    """
    for name, module in list(sys.modules.items()):
        package, _, attribute = name.rpartition(".")
        if package == torch.optim.__name__ and not hasattr(torch.optim, attribute):
            setattr(torch.optim, attribute, module)
