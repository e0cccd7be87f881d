"""Pieces of large tensors that stay in a processor's cache while something is computed of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from avalanche_mas.importance.per_sample import wide_dtype

BLOCK = 1 << 19
"""Numbers per block on the CPU, so that a block's tensors stay in cache between operations."""


def blocks(*tensors: Tensor) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Corresponding pieces of tensors of one shape, small enough for the cache on a CPU.

    :return: the pieces, and two tensors of their shape to compute in, stacked.
    """
    first = tensors[0]
    size = BLOCK if first.device.type == "cpu" else first.numel()
    dense = torch.empty_like(first, device="meta").stride() if first.numel() > size else None
    if any(tensor.stride() != dense for tensor in tensors):  # small, or to be taken as it is
        yield tensors, _spare_like(first)
        return
    flat = (t.as_strided((t.numel(),), (1,), t.storage_offset()) for t in tensors)
    for block in zip(*(torch.split(t, size) for t in flat), strict=True):
        yield block, _spare_like(block[0])


def _spare_like(tensor: Tensor) -> Tensor:
    """Two uninitialised tensors of this shape, in the dtype of Ω: shape (2, *shape).

    On a CPU their memory is kept from step to step: fresh pages cost as much as the computing.
    """
    dtype = wide_dtype(tensor)
    if tensor.device.type != "cpu" or tensor.numel() > BLOCK:
        return torch.empty(2, *tensor.shape, dtype=dtype, device=tensor.device)
    held: Tensor | None = getattr(_kept, str(dtype), None)
    if held is None:
        held = torch.empty(2, BLOCK, dtype=dtype)
        setattr(_kept, str(dtype), held)
    return held[:, : tensor.numel()].view(2, *tensor.shape)


_kept = threading.local()  # two steps at once must not compute in the same memory
