"""Samples that a network takes the same way, as far as it depends on their values.

``if mask.all()`` may send one sample through other operations than the next. Samples to which the
network asks the same questions and gets the same answers, alone as well as all of them together,
go the same way: they can be measured in one batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import torch

from avalanche_mas.importance.batches import (
    batch_size_of,
    is_per_sample,
    leaves_of,
    shapes_of,
    take,
)
from avalanche_mas.importance.engines.looking import Way
from avalanche_mas.importance.engines.network import Network

_MAX_REMEMBERED = 1 << 16  # samples


class Group(NamedTuple):
    """Samples that go the same way.

    :param way: the answers that each of them gets, alone; None if that is not known.
    :param batch: the samples.
    :param size: how many they are.
    """

    way: Way | None
    batch: Any
    size: int


class Ways:
    """Tells samples apart by the answers that they give to a network's questions.

    A sample goes through the network alone, as far as its last question. What was asked of the
    same numbers before is remembered: masks of padding are soon all known.

    :param network: F; its parameters stay as they are.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._known: dict[Hashable, set[Way]] = {}  # by the kind of batch, which decides as well
        self._remembered: dict[frozenset[int], dict[Hashable, Way]] = {}

    def of(self, batch: Any) -> Way:
        """The answers that samples give together."""
        return self._ask(batch)[0]

    def groups(self, batch: Any, size: int) -> Iterator[Group]:
        """The samples of a batch by the ways that they go alone."""
        members: dict[Way, list[int]] = {}
        for k in range(size):
            members.setdefault(self._of_sample(batch, k, size), []).append(k)
        for way, rows in members.items():
            group = batch if len(rows) == size else take(batch, torch.tensor(rows), size)
            yield Group(way, group, len(rows))

    def _ask(self, batch: Any) -> tuple[Way, frozenset[int]]:
        known = self._known.setdefault((batch_size_of(batch) > 1, shapes_of(batch)), set())
        looking = self.network.look(batch, known)
        way = tuple(looking.answers)
        known.add(way)
        return way, looking.asked

    def _of_sample(self, batch: Any, k: int, size: int) -> Way:
        for asked, ways in self._remembered.items():
            if (way := ways.get(_key(batch, k, size, asked))) is not None:
                return way
        way, asked = self._ask(take(batch, slice(k, k + 1), size))
        remembered = self._remembered.setdefault(asked, {})
        if len(remembered) < _MAX_REMEMBERED:
            remembered[_key(batch, k, size, asked)] = way
        return way


def _key(batch: Any, k: int, size: int, asked: frozenset[int]) -> Hashable:
    """The numbers of sample k in some inputs, and whatever else the answers may depend on."""
    digest = hashlib.blake2b()
    leaves = leaves_of(batch)
    for number in sorted(asked):
        leaf = leaves[number]
        row = leaf[k] if is_per_sample(leaf, size) else getattr(leaf, "part", leaf)
        digest.update(row.detach().reshape(-1).contiguous().cpu().view(torch.uint8).numpy())
    return shapes_of(batch), digest.digest()
