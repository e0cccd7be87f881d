"""Per-sample gradients in the factored forms that layers give them, and Σ_k |g_k| of each form.

Written out, the gradients of a batch would take B times the memory of the parameter, and writing
and reading them would cost more than computing them. Each form here knows how to add magnitudes to
a sum while only a small block of one gradient exists at a time.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avalanche_mas.importance.engines.objectives import Magnitude, add_samples
from avalanche_mas.importance.parameters import wide, wide_dtype
from avalanche_mas.importance.rules.matmul import add_magnitudes, add_product

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


CHUNK_BYTES = 1 << 26
"""Per-sample gradients that are written out at a time where nothing better is known."""

CACHED_BYTES = 1 << 22
"""The same on a CPU, where they stay in cache between one operation and the next, but are large
enough for the calls of these to cost little."""

_FEW_POSITIONS = 4
"""Up to so many, the elementwise sum of their products is faster than a matrix product."""


class PerSample(ABC):
    """The gradients g_k of one use of a parameter, for the B samples of a batch.

    Index legend: b sample, t position, o output unit, i input unit.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def dense(self, start: int, stop: int) -> Tensor:
        """g_k for start ≤ k < stop, written out: a new tensor (stop − start, *parameter)."""

    def written(self, start: int, stop: int, spare: Tensor | None) -> Tensor:
        """The same, perhaps in the memory of ``spare``: such a tensor, of at least as many samples.

        It is in cache, and need not be asked for again.
        """
        return self.dense(start, stop)

    def add(self, total: Tensor, magnitude: Magnitude) -> None:
        """total += Σ_k magnitude(g_k)."""
        gradients = None
        for start, stop in chunks(self.size, self.workspace_like(total)):
            gradients = self.written(start, stop, gradients).to(total.dtype)
            add_samples(total, magnitude(gradients, out=gradients))

    def workspace_like(self, total: Tensor) -> Tensor:
        """A tensor as large as what is written out of each sample to add to ``total``."""
        return total

    def clone(self) -> PerSample:
        """The same, independent of the memory that it was made from."""
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(twin, name, value.clone())
        return twin

    def summed(self) -> PerSample:
        """The whole batch as one sample, for gradients of which no two have opposite signs.

        Then Σ_k |g_k| = |Σ_k g_k|, which is a single ordinary weight gradient.
        """
        return self

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """A and B of one row for each sample, where g_k is the outer product of the two rows."""
        return None

    def squared(self) -> PerSample:
        """g_k², to which those of other outputs can be added by ``accumulate``."""
        return Dense(wide(self.dense(0, self.size)).square_())

    def accumulate(self, gradients: PerSample) -> None:
        """To squares of one output, adds those of the same use's gradients for another output."""
        raise NotImplementedError

    def concatenated(self, others: Sequence[Self]) -> PerSample | None:
        """The sum of the gradients of this use and of others, sample by sample, in one form.

        :return: None if it has to be written out.
        """
        return None


class Dense(PerSample):
    """Already written out: for biases and affine parameters, which are small.

    :param gradient: (B, *parameter).
    """

    def __init__(self, gradient: Tensor) -> None:
        super().__init__(gradient.shape[0])
        self.gradient = gradient

    def dense(self, start: int, stop: int) -> Tensor:
        return self.gradient[start:stop].clone()

    def add(self, total: Tensor, magnitude: Magnitude) -> None:
        for start, stop in chunks(self.size, total):
            add_samples(total, magnitude(self.gradient[start:stop].to(total.dtype)))

    def accumulate(self, gradients: PerSample) -> None:
        written = gradients if isinstance(gradients, Dense) else None
        gradient = wide(written.gradient if written else gradients.dense(0, self.size))
        self.gradient.addcmul_(gradient, gradient)

    def concatenated(self, others: Sequence[Self]) -> PerSample:
        return Dense(torch.stack([use.gradient for use in (self, *others)]).sum(0))


class Outer(PerSample):
    """g_b = Σ_t δ_bt x_btᵀ, the weight gradient of a linear map that is applied T times.

    On a CPU, positions before the first and behind the last that have a gradient are left out, such
    as padding, or all but the one that is classified.

    :param delta: (B, T, o), gradient at the outputs.
    :param x: (B, T, i), inputs.
    """

    def __init__(self, delta: Tensor, x: Tensor) -> None:
        super().__init__(x.shape[0])
        dtype = torch.promote_types(delta.dtype, x.dtype)  # autocast leaves some as they are
        self.delta, self.x = delta.to(dtype), x.to(dtype)

    @cached_property
    def _used(self) -> list[slice] | None:
        """The positions of each sample that have a gradient; None for all."""
        ends = self.delta[:, :: max(1, self.delta.shape[1] - 1)]
        if self.delta.device.type != "cpu" or bool(ends.any(-1).all()):
            return None
        used = (self.delta.amax(-1).ne(0) | self.delta.amin(-1).ne(0)).int()
        first, behind = used.argmax(1), used.shape[1] - used.flip(1).argmax(1)
        some = used.any(1)
        return list(map(slice, (first * some).tolist(), (behind * some).tolist()))

    def dense(self, start: int, stop: int) -> Tensor:
        return self.written(start, stop, None)

    def written(self, start: int, stop: int, spare: Tensor | None) -> Tensor:
        delta, x = self.delta[start:stop].transpose(1, 2), self.x[start:stop]
        out = None
        if spare is not None and spare.dtype == x.dtype:
            out = spare[: stop - start]
        if x.shape[1] > _FEW_POSITIONS:
            return torch.bmm(delta, x, out=out)
        gradients = torch.mul(delta[:, :, :1], x[:, :1], out=out)
        for t in range(1, x.shape[1]):
            gradients.addcmul_(delta[:, :, t : t + 1], x[:, t : t + 1])
        return gradients

    def add(self, total: Tensor, magnitude: Magnitude) -> None:
        if factors := self.factors():
            add_product(total, *factors, magnitude)
        elif total.device.type == "cpu" and self.x.shape[1] > _FEW_POSITIONS:
            delta, x = (
                self.delta.contiguous(),
                self.x.contiguous(),
            )  # where steps of time come first
            add_magnitudes(total, delta.transpose(1, 2), x, magnitude, self._used)
        else:
            super().add(total, magnitude)

    def factors(self) -> tuple[Tensor, Tensor] | None:
        # |δ xᵀ| = |δ| |x|ᵀ: one product for the whole batch, nothing per sample is written out
        if self.x.shape[1] == 1:
            return self.delta[:, 0], self.x[:, 0]
        if self._used is None or any(used.stop - used.start > 1 for used in self._used):
            return None
        rows, one = torch.arange(self.size), torch.tensor([used.start for used in self._used])
        return self.delta[rows, one], self.x[rows, one]

    def summed(self) -> PerSample:
        if self.x.shape[1] == 1:
            return self  # one product as it is
        return Outer(self.delta.flatten(0, 1).unsqueeze(0), self.x.flatten(0, 1).unsqueeze(0))

    def squared(self) -> PerSample:
        if self.x.shape[1] != 1:
            return super().squared()
        return Outer(wide(self.delta).square(), wide(self.x).square())  # (δ xᵀ)² = δ² (x²)ᵀ

    def accumulate(self, gradients: PerSample) -> None:
        assert isinstance(gradients, Outer)
        delta = wide(gradients.delta)  # the input is the same for all outputs
        self.delta.addcmul_(delta, delta)

    def concatenated(self, others: Sequence[Self]) -> PerSample:
        uses = (self, *others)  # more positions of one linear map
        return Outer(
            torch.cat([use.delta for use in uses], 1), torch.cat([use.x for use in uses], 1)
        )


class Sum(PerSample):
    """A parameter that is used several times: the gradients of all uses belong together, Σ g_k.

    Uses of the same part in the same form become one, such as the time steps of a recurrent layer.

    :param parameter: the whole parameter.
    :param uses: parts of it (views of its memory) and their gradients.
    """

    def __init__(self, parameter: Tensor, uses: list[tuple[Tensor, PerSample]]) -> None:
        super().__init__(uses[0][1].size)
        uses = [_upright(parameter, *use) for use in uses]
        self.parameter, self.uses = parameter, _concatenated(uses)

    @property
    def whole(self) -> PerSample | None:
        """The gradients of the whole parameter, if they have one form."""
        (part, gradients), *others = self.uses
        same = _layout(part) == _layout(self.parameter)
        return gradients if same and not others else None

    def add(self, total: Tensor, magnitude: Magnitude) -> None:
        (part, gradients), *others = self.uses
        if others:
            super().add(total, magnitude)
        else:
            offset = int(part.storage_offset() - self.parameter.storage_offset())
            gradients.add(total.as_strided(part.shape, part.stride(), offset), magnitude)

    def workspace_like(self, total: Tensor) -> Tensor:
        return max((use.workspace_like(total) for _, use in self.uses), key=Tensor.numel)

    def dense(self, start: int, stop: int) -> Tensor:
        parameter, copies = self.parameter, stop - start
        shape, dtype = (copies, parameter.numel()), wide_dtype(parameter)
        summed = torch.zeros(shape, dtype=dtype, device=parameter.device)
        for part, gradients in self.uses:
            offset = int(part.storage_offset() - parameter.storage_offset())
            strides = (parameter.numel(), *part.stride())
            view = summed.as_strided((copies, *part.shape), strides, offset)
            view.add_(gradients.dense(start, stop).to(summed.dtype))
        strides = (parameter.numel(), *parameter.stride())
        return summed.as_strided((copies, *parameter.shape), strides)


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.storage_offset(), tensor.shape, tensor.stride()


def _upright(parameter: Tensor, part: Tensor, gradients: PerSample) -> tuple[Tensor, PerSample]:
    """Of a transposed matrix, the gradients of the matrix."""
    if not isinstance(gradients, Outer) or _layout(part) == _layout(parameter):
        return part, gradients
    if part.dim() != 2 or _layout(part.t()) != _layout(parameter):
        return part, gradients
    return part.t(), Outer(gradients.x, gradients.delta)


def _concatenated(uses: list[tuple[Tensor, PerSample]]) -> list[tuple[Tensor, PerSample]]:
    alike: dict[object, list[tuple[Tensor, PerSample]]] = {}
    for part, gradients in uses:
        key = type(gradients), part.storage_offset(), part.shape, part.stride()
        alike.setdefault(key, []).append((part, gradients))
    result = []
    for group in alike.values():
        (part, first), *others = group
        whole = first.concatenated([gradients for _, gradients in others]) if others else first
        result += group if whole is None else [(part, whole)]
    return result


class Scaled(PerSample):
    """Gradients of which every entry is multiplied by a number of its own, r ∘ g_k.

    :param gradients: g_k.
    :param factor: r, shaped like the parameter.
    """

    def __init__(self, gradients: PerSample, factor: Tensor) -> None:
        super().__init__(gradients.size)
        self.gradients, self.factor = gradients, factor

    def dense(self, start: int, stop: int) -> Tensor:
        return self.written(start, stop, None)

    def written(self, start: int, stop: int, spare: Tensor | None) -> Tensor:
        return self.gradients.written(start, stop, spare) * self.factor

    def add(self, total: Tensor, magnitude: Magnitude) -> None:
        unscaled = torch.zeros_like(total)  # |r g| = |r| |g|
        self.gradients.add(unscaled, magnitude)
        total.addcmul_(magnitude(self.factor.to(total.dtype)), unscaled)

    def workspace_like(self, total: Tensor) -> Tensor:
        return self.gradients.workspace_like(total)


class RowsWithoutPart(PerSample):
    """Gradients of which each row is made orthogonal to a direction u: g_k − u (uᵀ g_k).

    :param gradients: g_k.
    :param direction: u of each row, of length one, shaped like the parameter.
    :param along: uᵀ g_k, (B, rows), if known; else it is found where g_k are written out.
    """

    def __init__(
        self, gradients: PerSample, direction: Tensor, along: Tensor | None = None
    ) -> None:
        super().__init__(gradients.size)
        self.gradients, self.direction = gradients, direction
        self._known = 0 if along is None else self.size  # so many samples' uᵀ g_k, from the first
        self._along = direction.new_empty(self.size, len(direction)) if along is None else along

    def dense(self, start: int, stop: int) -> Tensor:
        return self.written(start, stop, None)

    def written(self, start: int, stop: int, spare: Tensor | None) -> Tensor:
        gradients = self.gradients.written(start, stop, spare)
        if start <= self._known < stop:
            self._along[start:stop] = (gradients * self.direction).flatten(2).sum(2)
            self._known = stop
        along = self.along(start, stop).view(*gradients.shape[:2], *[1] * (gradients.dim() - 2))
        return gradients.addcmul_(self.direction, along, value=-1)

    def along(self, start: int, stop: int) -> Tensor:
        """uᵀ g_k for start ≤ k < stop, (stop − start, rows)."""
        known = self._known
        for first, last in chunks(stop - known, self.direction) if stop > known else ():
            self.dense(known + first, known + last)
        return self._along[start:stop]

    def workspace_like(self, total: Tensor) -> Tensor:
        return self.gradients.workspace_like(total)


class Along(PerSample):
    """uᵀ g_k, which costs nothing once g_k − u (uᵀ g_k) have been added.

    :param rows: those.
    :param shape: of the parameter, which has one number for each row.
    """

    def __init__(self, rows: RowsWithoutPart, shape: torch.Size) -> None:
        super().__init__(rows.size)
        self.rows, self.shape = rows, shape

    def dense(self, start: int, stop: int) -> Tensor:
        return self.rows.along(start, stop).clone().view(-1, *self.shape)


class Pullback(PerSample):
    """Gradients of a parameter from those of a tensor that was computed from it, by the chain rule.

    :param parameter: such as the direction of weight normalisation.
    :param derived: such as the weight; autograd knows how it came about.
    :param gradients: of ``derived``.
    """

    def __init__(self, parameter: Tensor, derived: Tensor, gradients: PerSample) -> None:
        super().__init__(gradients.size)
        self.parameter, self.derived, self.gradients = parameter, derived, gradients

    def workspace_like(self, total: Tensor) -> Tensor:
        return max(total, self.gradients.workspace_like(self.derived), key=Tensor.numel)

    def dense(self, start: int, stop: int) -> Tensor:
        """All samples go back through the derivation together, where autograd can do that."""
        gradients = self.gradients.dense(start, stop).to(self.derived.dtype)
        try:
            return self._back(gradients, batched=True)
        except RuntimeError:  # an operation that vmap refuses
            return torch.stack([self._back(gradient) for gradient in gradients])

    def _back(self, gradient: Tensor, *, batched: bool = False) -> Tensor:
        result: Tensor = torch.autograd.grad(
            self.derived, self.parameter, gradient, retain_graph=True, is_grads_batched=batched
        )[0]
        return result.contiguous()  # of a sum, torch gives an expanded tensor


def chunks(size: int, parameter: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of samples whose written-out gradients stay below a limit."""
    limit = CACHED_BYTES if parameter.device.type == "cpu" else CHUNK_BYTES
    step = max(1, limit // max(1, parameter.numel() * parameter.element_size()))
    for start in range(0, size, step):
        yield start, min(start + step, size)
