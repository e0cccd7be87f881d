"""Per-sample gradients in the factored forms that layers give them, and Σ_k |g_k| of each form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_BYTES = 1 << 26
"""Per-sample gradients that are written out at a time."""


class PerSample(ABC):
    """The gradients g_k of one use of a parameter, for the B samples of a batch.

    Index legend: b sample, t position, o output unit, i input unit.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def dense(self, start: int, stop: int) -> Tensor:
        """g_k for start ≤ k < stop, written out: shape (stop − start, *parameter)."""

    def add_abs(self, total: Tensor) -> None:
        """total += Σ_k |g_k|."""
        for start, stop in chunks(self.size, total):
            total.add_(self.dense(start, stop).to(total.dtype).abs_().sum(0))


class Dense(PerSample):
    """Already written out: for biases and affine parameters, which are small.

    :param gradient: (B, *parameter).
    """

    def __init__(self, gradient: Tensor) -> None:
        super().__init__(gradient.shape[0])
        self.gradient = gradient

    def dense(self, start: int, stop: int) -> Tensor:
        return self.gradient[start:stop].clone()


class Outer(PerSample):
    """g_b = Σ_t δ_bt x_btᵀ, the weight gradient of a linear map that is applied T times.

    :param delta: (B, T, o), gradient at the outputs.
    :param x: (B, T, i), inputs.
    """

    def __init__(self, delta: Tensor, x: Tensor) -> None:
        super().__init__(x.shape[0])
        self.delta, self.x = delta, x

    def dense(self, start: int, stop: int) -> Tensor:
        return torch.einsum("bto,bti->boi", self.delta[start:stop], self.x[start:stop])

    def add_abs(self, total: Tensor) -> None:
        if self.x.shape[1] != 1:
            return super().add_abs(total)
        # |δ xᵀ| = |δ| |x|ᵀ: one product for the whole batch, nothing per sample is written out
        delta, x = self.delta[:, 0].to(total.dtype), self.x[:, 0].to(total.dtype)
        total.addmm_(delta.abs().t(), x.abs())


def chunks(size: int, parameter: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of samples whose written-out gradients stay below :data:`CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // max(1, parameter.numel() * parameter.element_size()))
    for start in range(0, size, step):
        yield start, min(start + step, size)
