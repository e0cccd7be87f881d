"""Eq. 2 written down naively, one sample at a time: uses nothing of ``avalanche_mas``."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from .case import Batch, concatenated


def call(model: nn.Module, batch: Batch) -> Any:
    """``model(x)``, or ``model(**batch)`` for a dict."""
    return model(**batch) if isinstance(batch, dict) else model(batch)


def squared_norm(model: nn.Module, batch: Batch) -> Tensor:
    """‖F‖², summed over samples and over all tensors that the model returns."""
    return torch.stack([part.square().sum() for part in _parts(call(model, batch))]).sum()


def sensitivity(model: nn.Module, sample: Batch) -> dict[str, Tensor]:
    """|∂‖F(x)‖²/∂θ| of one sample, by parameter, on a copy of the model.

    With BatchNorm the sample is doubled and the result halved: at batch size one, torch's own
    gradient of it in eval mode is wrong on CPUs where the one that arrives is channels-last.
    """
    model = copy.deepcopy(model)
    copies = 2 if any(isinstance(module, _BatchNorm) for module in model.modules()) else 1
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    norm = squared_norm(model, concatenated([sample] * copies)) / copies
    found = torch.autograd.grad(norm, list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient.to_dense().abs()
        for (name, parameter), gradient in zip(named.items(), found, strict=True)
    }


def casts(model: nn.Module, batch: Batch) -> bool:
    """Whether a float64 model computes in a smaller dtype on its own account."""
    with torch.no_grad(), _Casts() as seen:
        call(copy.deepcopy(model), batch)
    return bool(seen.some)


class _Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.some = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].dtype == torch.float64:
            self.some |= result.dtype in (torch.float32, torch.bfloat16, torch.float16)
        return result


def _parts(output: Any) -> Iterator[Tensor]:
    """The tensors of an output; what else is in it, such as a cache of keys, does not count."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (Mapping, tuple, list)):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _parts(part)
