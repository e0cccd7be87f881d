"""Samples of many calls of a model, kept until enough have come to be measured together.

What a few samples cost is mostly what any pass costs, and what it costs to write to Ω.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from avalanche_mas.importance.batches import (
    OneSample,
    Shared,
    batch_size_of,
    is_per_sample,
    leaves_of,
    map_leaves,
)
from avalanche_mas.importance.engines.finite import NotFiniteError
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.parameters import checksum
from avalanche_mas.importance.shadow import Shadow
from avalanche_mas.importance.snapshot import Snapshot

GROUP = 256
"""Samples that are measured at once, if their bytes allow it. Writing to a large Ω costs as much as
the samples themselves where these are fewer."""
LARGE = 64
"""A call of which so many are chosen is measured at once, so that an error is its own."""
MAX_BYTES = 1 << 25
"""Of all samples that wait."""


class Mean(Protocol):
    """A mean of importance that samples can be added to, such as :class:`.RunningMean`."""

    samples: int

    def mark(self, batch: Any) -> Any:
        """The batch, with what its samples share marked; it leaves no trace."""

    def add_whole(self, batch: Any) -> None:
        """Measures a batch and adds all of it, or after an error nothing; it leaves no trace."""

    @property
    def importance(self) -> Importance:
        """Ω of everything that was added."""


class Gathering:
    """Adds samples to a mean in groups, each as of the model at the time when it came.

    A shadow of the model is held, over the same parameters. If anything else about the model has
    changed when the next samples come, those that wait are measured first, with what is held.

    :param model: unwrapped.
    :param make_mean: a model → the mean of its importance; it gets what is held.
    """

    def __init__(self, model: nn.Module, make_mean: Callable[[nn.Module], Mean]) -> None:
        self._model, self._shadow = model, Shadow(model)
        self._held = self._shadow.fresh()
        self._snapshot: Snapshot | None = None
        self._devices = sorted({"cpu", *(p.device.type for p in model.parameters())})
        self.mean = make_mean(self._held)
        self._calls: list[_Call] = []

    @property
    def waiting(self) -> int:
        """Samples that have not been measured yet."""
        return sum(call.size for call in self._calls)

    def holds(self) -> bool:
        """Whether the model still is what is held."""
        return self._snapshot is not None and self._snapshot.is_current()

    def hold(self) -> None:
        """Samples that come from now on are those of the model as it is now."""
        self.measure()
        twin = vars(self._shadow.fresh())
        vars(self._held).clear()
        vars(self._held).update(twin)
        self._snapshot = Snapshot(self._model)

    def add(self, batch: Any) -> None:
        """Keeps a batch, or measures it with others like it; after an error it does not wait.

        :param batch: its tensors are not written to any more.
        """
        call = _Call(batch, leaves_of(batch), tuple(map(_precision_on, self._devices)))
        self._calls.append(call)
        try:
            alone = isinstance(batch, OneSample)  # which is never joined with others
            if alone or call.size >= LARGE or not all(map(_is_finite, call.leaves)):
                self._measure([call])  # what is wrong with it is told now, not later
            elif (
                sum(call.size for call in self._calls) >= GROUP
                or sum(call.nbytes for call in self._calls) > MAX_BYTES
            ):
                self.measure()
        except BaseException:
            self._remove([call])
            raise

    def measure(self) -> None:
        """Adds all samples that wait, those that are alike together."""
        while self._calls:
            kind = self._calls[0].kind
            self._measure([call for call in self._calls if call.kind == kind])

    def drop(self) -> int:
        """Forgets the samples that wait; returns how many."""
        dropped, self._calls = self.waiting, []
        return dropped

    def _measure(self, calls: list[_Call]) -> None:
        """After an error they wait on, but for those that are not finite."""
        with calls[0].autocast():
            try:
                self.mean.add_whole(_joined(calls))
                self._remove(calls)
            except NotFiniteError:
                for call in calls:  # one does not take the others with it
                    try:
                        self.mean.add_whole(call.batch)
                    except NotFiniteError as error:
                        warnings.warn(
                            f"{error} The samples of this call are left out.", stacklevel=6
                        )
                    self._remove([call])

    def _remove(self, calls: list[_Call]) -> None:
        done = set(map(id, calls))
        self._calls = [call for call in self._calls if id(call) not in done]


class _Call:
    """A call that waits.

    :param leaves: of ``batch``.
    :param precision: autocast at the time of the call.
    """

    def __init__(self, batch: Any, leaves: list[Any], precision: tuple[_Precision, ...]) -> None:
        self.batch, self.leaves, self.precision = batch, leaves, precision
        self.size = batch_size_of(batch)
        self.nbytes = sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))

    @cached_property
    def kind(self) -> tuple[Any, ...]:
        """Equal for calls that can be measured as one."""
        form = map_leaves(lambda leaf: _description(leaf, self.size), self.batch)
        return form, self.precision

    def autocast(self) -> ExitStack:
        """The precision that the call was made in."""
        stack = ExitStack()
        for device, enabled, dtype in self.precision:
            stack.enter_context(torch.autocast(device, dtype, enabled))
        return stack


_Precision = tuple[str, bool, torch.dtype]


def _precision_on(device: str) -> _Precision:
    return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def _is_finite(leaf: Any) -> bool:
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return True
    return math.isfinite(leaf.sum().item())


def _description(leaf: Any, size: int) -> object:
    if isinstance(leaf, Shared):
        return _description(leaf.part, -1)
    if is_per_sample(leaf, size):
        return "of each sample", leaf.shape[1:], leaf.dtype, leaf.device
    if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
        return "shared", leaf.dtype, leaf.device, checksum(leaf)
    return (type(leaf), leaf) if isinstance(leaf, Hashable) else object()


def _joined(calls: list[_Call]) -> Any:
    """Calls of one kind as one batch."""
    first, numbers = calls[0], count()

    def join(leaf: Any) -> Any:
        number = next(numbers)
        if len(calls) == 1 or not is_per_sample(leaf, first.size):
            return leaf
        return torch.cat([call.leaves[number] for call in calls])

    with torch.inference_mode(False), torch.no_grad():
        return map_leaves(join, first.batch)
