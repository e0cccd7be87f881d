"""What the package knows of a model's parameters: names, which are measured, dtypes, growth."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

_COMPILED = "_orig_mod"  # the child that torch.compile puts around a module


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``.

    :param model: any module, wrapped any number of times or not at all.
    :return: the innermost module; the same object where nothing is wrapped.
    """
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif _COMPILED in model._modules:
            model = model._modules[_COMPILED]  # type: ignore[assignment]
        else:
            return model


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of ``model`` by canonical name.

    Wrapping a model between two experiences renames every parameter (``module.`` in front for
    data parallelism, ``_orig_mod.`` for compiled modules, at any depth). Importance that is kept
    under such names would silently match nothing afterwards, so both are left out of the name. A
    user's own submodule that happens to be called ``module`` keeps its name. A shared parameter
    appears once, under the first of its names, as in :meth:`torch.nn.Module.named_parameters`.

    :param model: any module.
    :return: canonical name → parameter, in the order of ``model.named_parameters()``.
    """
    return {canonical_name(model, name): parameter for name, parameter in model.named_parameters()}


def canonical_name(model: nn.Module, name: str) -> str:
    """The name that a parameter or buffer has when nothing is wrapped.

    :param model: any module.
    :param name: its name in ``model.named_parameters()`` or ``model.named_buffers()``.
    """
    owner: nn.Module | None = model
    kept = []
    for part in name.split("."):
        parallel = isinstance(owner, (DataParallel, DistributedDataParallel))
        if part != _COMPILED and not (parallel and part == "module"):
            kept.append(part)
        owner = owner._modules.get(part) if owner is not None else None
    return ".".join(kept)


def measurable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that importance is measured of, and that a penalty protects, by name.

    These are the trainable ones with real floating-point numbers. A warning names trainable
    parameters with complex ones, for which |∂‖F‖²/∂θ| is not defined entry by entry.

    :param model: any module.
    :return: canonical name → parameter.
    """
    trainable = {name: p for name, p in named_parameters(model).items() if p.requires_grad}
    if left_out := [name for name, p in trainable.items() if p.is_complex()]:
        warnings.warn(
            f"parameters with complex numbers are neither measured nor protected: "
            f"{', '.join(left_out)}. Store the real and the imaginary part as a real parameter "
            "(torch.view_as_real) and use torch.view_as_complex in forward.",
            stacklevel=2,
        )
    return {name: p for name, p in trainable.items() if p.is_floating_point()}


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of Ω for a parameter: float64 stays, anything else is measured in float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def wide(tensor: Tensor) -> Tensor:
    """The tensor in :func:`wide_dtype`."""
    return tensor.to(wide_dtype(tensor))


def zeros(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A zero tensor for each parameter, on its device and of its strides, at least float32."""
    return {
        name: torch.zeros_like(parameter.detach(), dtype=wide_dtype(parameter))
        for name, parameter in parameters.items()
    }


def grow(old: Tensor, shape: torch.Size, name: str) -> Tensor:
    """``old`` in the leading corner of a zero tensor of ``shape``; ``old`` itself if it fits.

    Incremental classifiers append their new units after the old ones, in every dimension.

    :raises ValueError: if ``shape`` has other dimensions or is smaller anywhere.
    """
    check_growth(old, shape, name)
    if old.shape == shape:
        return old
    new = old.new_zeros(shape)
    new[tuple(slice(size) for size in old.shape)] = old
    return new


def check_growth(old: Tensor, shape: torch.Size, name: str) -> None:
    """:raises ValueError: unless ``shape`` is that of ``old``, or larger in some dimensions."""
    if old.dim() != len(shape) or any(a > b for a, b in zip(old.shape, shape, strict=True)):
        raise ValueError(
            f"parameter {name!r} went from shape {tuple(old.shape)} to {tuple(shape)}: only "
            "growing parameters can keep their importance. Is this the importance of another model?"
        )


def checksum(tensor: Tensor, start: int = 0) -> int:
    """CRC-32 of a tensor's shape, dtype and bits, continued from ``start``."""
    flat = tensor.detach().cpu().contiguous().flatten()
    raw: Any = flat.view(torch.uint8).numpy()
    return zlib.crc32(raw, zlib.crc32(f"{tuple(tensor.shape)} {tensor.dtype}".encode(), start))
