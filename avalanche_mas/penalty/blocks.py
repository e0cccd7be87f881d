"""Pieces of large tensors that stay in a processor's cache while something is computed of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from avalanche_mas.importance.parameters import wide_dtype

BLOCK = 1 << 19
"""Numbers per block on the CPU, so that a block's tensors stay in cache between operations."""


def blocks(*tensors: Tensor) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]]:
    """Corresponding pieces of tensors of one shape, small enough for the cache on a CPU.

    :return: the pieces, and two tensors of their shape to compute in, in the dtype of Ω.
    """
    first = tensors[0]
    size = BLOCK if first.device.type == "cpu" else first.numel()
    dense = torch.empty_like(first, device="meta").stride() if first.numel() > size else None
    if any(tensor.stride() != dense for tensor in tensors):  # small, or to be taken as it is
        a, b = _spare(first.numel(), first)
        yield tensors, (a.view(first.shape), b.view(first.shape))
        return
    flat = (t.as_strided((t.numel(),), (1,), t.storage_offset()) for t in tensors)
    a, b = whole = _spare(size, first)
    for block in zip(*(torch.split(t, size) for t in flat), strict=True):
        n = len(block[0])
        yield block, whole if n == size else (a[:n], b[:n])


def _spare(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Two uninitialised vectors in the dtype of Ω.

    On a CPU their memory is kept from step to step: fresh pages cost as much as the computing.
    """
    dtype = wide_dtype(like)
    if like.device.type != "cpu" or size > BLOCK:
        made = torch.empty(2, size, dtype=dtype, device=like.device)
        return made[0], made[1]
    held: Tensor | None = getattr(_kept, str(dtype), None)
    if held is None:
        held = torch.empty(2, BLOCK, dtype=dtype)
        setattr(_kept, str(dtype), held)
    return held[0, :size], held[1, :size]


_kept = threading.local()  # two steps at once must not compute in the same memory
