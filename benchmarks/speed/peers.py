"""Per-sample gradients by Opacus and BackPACK, on networks altered until they accept them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .altered import (
    SplitRecurrent,
    with_own_lstm,
    without_inplace,
    without_train_mode,
)
from .networks import Case, Recurrent
from .rows import Refused
from .ways import Ready, first_words, squares

NOT_INSTALLED = "not installed: pip install -e '.[speed]'"


def opacus(case: Case) -> Ready:
    """Opacus' ``GradSampleModule``, which works in train mode only."""
    with _refusals():
        from opacus import GradSampleModule

        model, changes = without_inplace(case.model)
        changes += ["train mode", *without_train_mode(model)]
        if isinstance(model, Recurrent):
            from opacus.layers import DPLSTM

            with_own_lstm(model, DPLSTM)
            changes.append("its own DPLSTM")
        _check_function(model.train(), case)
        wrapped = GradSampleModule(model, loss_reduction="sum")

    def run(x: Tensor) -> None:
        wrapped.zero_grad(set_to_none=True)
        torch.autograd.backward(squares(wrapped(x)))

    return _ready(case, model, run, "grad_sample", changes)


def backpack(case: Case) -> Ready:
    """BackPACK's ``BatchGrad``."""
    with _refusals():
        from backpack import backpack, extend
        from backpack.extensions import BatchGrad

        model, changes = without_inplace(case.model)
        if isinstance(model, Recurrent):
            model = SplitRecurrent(model)
            changes.append("LSTM as two of one layer")
        _check_function(model, case)
        model = extend(model)

    def run(x: Tensor) -> None:
        model.zero_grad(set_to_none=True)
        with backpack(BatchGrad()):
            torch.autograd.backward(squares(model(x)))

    return _ready(case, model, run, "grad_batch", changes)


def _ready(
    case: Case, model: nn.Module, run: Callable[[Tensor], None], attribute: str, changes: list[str]
) -> Ready:
    x = case.x[: case.few]
    parameters = {
        _original_name(case.model, name, parameter): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}

    def call() -> None:
        with _refusals():
            run(x)
            missing = 0
            for name, parameter in parameters.items():
                per_sample = getattr(parameter, attribute, None)
                if per_sample is None:
                    missing += 1
                else:
                    total[name].add_(per_sample.abs_().sum(0))
                    delattr(parameter, attribute)
        if missing:
            found = len(parameters) - missing
            raise Refused(f"incomplete: {found} of {len(parameters)} tensors")

    note = "; ".join([f"{len(x)} samples", *dict.fromkeys(changes)])
    return Ready(call, len(x), total, note)


@contextmanager
def _refusals() -> Iterator[None]:
    """What a library does not support is a result, not an error of ours."""
    try:
        yield
    except ImportError as error:
        raise Refused(NOT_INSTALLED) from error
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise Refused(first_words(error)) from error


def _original_name(model: nn.Module, name: str, parameter: Tensor) -> str:
    """What the unaltered model calls a parameter: the same, or the one of equal value."""
    originals = dict(model.named_parameters())
    if name in originals:
        return name
    return next(other for other, p in originals.items() if torch.equal(p, parameter))


@torch.no_grad()
def _check_function(model: nn.Module, case: Case) -> None:
    """:raises Refused: if an altered network is not the same function any more."""
    x = case.x[:2]
    if not torch.allclose(model(x), case.model(x), rtol=1e-3, atol=1e-4):
        raise Refused("the altered network gives other outputs")
