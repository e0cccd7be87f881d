"""Data that several processes measure together: which samples are whose.

Sample k belongs to process k mod P. No sample is padded, repeated or left out, whether or not P
divides their number, and a process may have none.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from avalanche_mas.importance.batches import (
    Some,
    batch_size_of,
    is_map_style,
    iterate_batches,
    leaves_of,
    some_of,
    take,
    taken,
)
from avalanche_mas.importance.parameters import checksum, named_parameters
from avalanche_mas.importance.shadow import preserve_state
from avalanche_mas.importance.team import DisagreementError, Team


@runtime_checkable
class Shareable(Protocol):
    """An iterable of batches that knows how to read a part of its samples only."""

    def own_batches(self, share: Share) -> Iterator[Any]:
        """The batches of the samples that belong to one process."""


class Share:
    """The part of the data that one of several processes measures.

    :param rank: which process.
    :param size: P, how many there are. For 1 every batch is handed on as it is.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.fingerprint = 0
        """Differs between processes whose data differ; of batches, as far as they were read."""

    def batches(
        self, data: Any, batch_size: int, num_workers: int = 0, max_samples: int | None = None
    ) -> Iterator[Any]:
        """This process's samples, in batches.

        Of a map-style ``Dataset`` or a tensor only its own samples are read, and two more, to see
        whether all processes have the same data. Of anything else everything is read, since no one
        else knows what comes next.

        Parameters are those of :func:`.iterate_batches`.
        """
        if self.size == 1:
            return iterate_batches(data, batch_size, num_workers, max_samples)
        if isinstance(data, Shareable) and max_samples is None:
            return data.own_batches(self)
        if not (isinstance(data, Tensor) or is_map_style(data)):
            return self._out_of(iterate_batches(data, batch_size, num_workers, max_samples))
        self._note_ends(data)
        chosen = (
            range(len(data))[:max_samples]
            if isinstance(data, Tensor)
            else some_of(len(data), max_samples)
        )
        own = chosen[self.rank :: self.size]
        return iterate_batches(_part(data, own), batch_size, num_workers)

    def _out_of(self, batches: Iterator[Any]) -> Iterator[Any]:
        position = 0
        for batch in batches:
            size = batch_size_of(batch)
            self._note(batch, size)
            first = (self.rank - position) % self.size
            position += size
            if first < size:
                whole, of_all = batch if isinstance(batch, Some) else (batch, range(size))
                yield Some(whole, of_all[first :: self.size])

    def _note_ends(self, data: Any) -> None:
        """Its size, and its first and last sample, drawn alike by random transforms."""
        size = len(data)
        self._note((), size)
        ends = _part(data, [0, size - 1] if size else [])
        with preserve_state(data) as interrupts:
            torch.manual_seed(0)
            numpy.random.seed(0)
            random.seed(0)
            for batch in interrupts.between(iterate_batches(ends, 2)):
                self._note(batch, batch_size_of(batch))

    def _note(self, batch: Any, size: int) -> None:
        """Its size, and its first and last sample."""
        ends = take(taken(batch), torch.tensor([0, size - 1]), size) if size else batch
        fingerprint = zlib.crc32(str(size).encode(), self.fingerprint)
        for leaf in leaves_of(ends):
            if isinstance(leaf, Tensor):
                fingerprint = checksum(leaf, fingerprint)
        self.fingerprint = fingerprint


def _part(data: Any, samples: Sequence[int]) -> Any:
    """Some samples of a tensor or of a map-style dataset."""
    if isinstance(data, Tensor):
        return data[torch.tensor(samples, dtype=torch.long, device=data.device)]
    part: Any = Subset(data, samples)
    part.collate_fn = getattr(data, "collate_fn", None)
    return part


def check_same(team: Team, model: nn.Module, share: Share) -> None:
    """Makes sure, before anything is measured, that the processes measure the same.

    :param team: the processes.
    :param model: unwrapped.
    :param share: of the data.
    :raises DisagreementError: if parameters or data are not the same.
    """
    if team.size == 1:
        return
    check_same_data(team, share)
    for name, seen in _seen_by(team, named_parameters(model)):
        if len(seen) > 1:
            raise DisagreementError(
                f"parameter {name!r} is not the same in all processes, so their importances would "
                "be those of different networks. DistributedDataParallel keeps parameters equal, "
                "if it is given the model again when heads are added (as DataParallel of "
                "avalanche_mas.training does). For one process by itself pass distributed='off'."
            )


@contextmanager
def buffers_of_first(team: Team, model: nn.Module) -> Iterator[None]:
    """Inside, all processes have the buffers of the first one.

    Under ``DistributedDataParallel`` each process keeps BatchNorm statistics of its own until the
    next forward pass, for which those of the first process are taken.
    """
    buffers = dict(model.named_buffers())
    if team.size == 1 or all(len(seen) == 1 for _, seen in _seen_by(team, buffers)):
        yield
        return
    own = {name: buffer.clone() for name, buffer in buffers.items()}
    try:
        team.broadcast_(buffers.values())
        yield
    finally:
        with torch.no_grad():
            for name, buffer in buffers.items():
                buffer.copy_(own[name])


def check_same_data(team: Team, share: Share) -> None:
    """:raises DisagreementError: if the processes have seen different data, but are to share."""
    team.check_equal(
        share.fingerprint,
        "the processes were given different data, or the same in another order, but "
        "distributed='split' is to measure every sample once. Pass the same Dataset in all of them "
        "(not a part of it, nor a DataLoader that shuffles), or distributed='own' where each has "
        "data of its own.",
    )


def _seen_by(team: Team, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, set[Any]]]:
    """Each name, and what the processes have under it."""
    own = {
        name: (tuple(t.shape), t.stride(), str(t.dtype), t.requires_grad, checksum(t))
        for name, t in tensors.items()
    }
    everyone = team.all_gather(own)
    for name in {name: None for others in everyone for name in others}:
        yield name, {others.get(name) for others in everyone}
