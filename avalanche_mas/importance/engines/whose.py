"""Which parts of a batch belong to one sample each, and which to all of them.

A graph, a table or a list of thresholds that all samples share may be as long as the batch. Sizes
do not tell, so the network is asked, by what the samples' outputs alone must be.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor, nn

from avalanche_mas.importance.batches import (
    FLAGS,
    OneSample,
    Shared,
    Some,
    batch_size_of,
    entries_of,
    leaves_of,
    map_leaves,
    structure_of,
    take,
    taken,
)
from avalanche_mas.importance.engines.looking import Looking

_ALONE = 16  # samples of a batch that are asked
_LEFT_OUT = 8  # samples without which the others are asked
_FEW = 8  # parts of which every subset is tried

_REMEDY = (
    "Leave what all share out of the batch, forward=lambda model, batch: model(batch, ...), or "
    "pass split=lambda batch: ..., which gives batches of one sample each."
)


class Answering(Protocol):
    """What can be asked, such as :class:`.Network`."""

    model: nn.Module

    def __call__(self, batch: Any) -> list[Tensor]:
        """The outputs of a batch, samples first."""

    def look(self, batch: Any) -> Looking:
        """What a pass over a batch asks about the samples' values."""


class Whose:
    """Tells what is shared from what each sample has of its own.

    What is not as long as the batch is shared; where a sample alone then has another output, as of
    a list of lists that holds one for each, that is an error. What is as long, beside the batch's
    first tensor, is read in every way, as shared and as the samples' own: of each of some samples,
    alone and among a few, the output must be what it is in the whole batch. Where the network's way
    depends on all samples together, ``if h.mean() > 0``, a sample alone shows nothing; then one
    sample at a time is left out. A part that made no difference yet is read as the samples' own,
    and asked about again: at every batch, or if the network did not use it, at the 2nd, 4th, 8th
    and so on.

    :param network: F.
    """

    def __init__(self, network: Answering) -> None:
        self._network = network
        self._known: dict[Hashable, _Known] = {}  # by the structure of a batch

    def mark(self, batch: Any) -> Any:
        """The batch, with :class:`.Shared` around what is shared though it is as long.

        Of :class:`.Some` samples it gives only these, cut after it was marked.

        :raises ValueError: if it cannot be told, or what was found before turns out to be wrong.
        """
        if isinstance(batch, OneSample):
            return batch
        if isinstance(batch, Some):
            return taken(Some(self.mark(batch.batch), batch.samples))
        size, leaves = batch_size_of(batch), leaves_of(batch)
        known = self._known.setdefault(structure_of(batch), _Known())
        lengths = {i: n for i, leaf in enumerate(leaves) if (n := entries_of(leaf)) is not None}
        first = next(i for i in lengths if isinstance(leaves[i], Tensor))
        as_long = {i for i, n in lengths.items() if n == size and i != first}
        other = {i: n for i, n in lengths.items() if n != size}
        # one entry serves as well for all as for each
        mistaken = {i for i, n in other.items() if n > 1} & known.own
        if unasked := other.keys() & known.unasked:
            mistaken |= unasked & self._network.look(batch).used
        if mistaken:
            raise _mistaken(f"a part of {other[min(mistaken)]} entries came with {size} samples")
        known.shared |= {i: n for i, n in other.items() if n > 1}
        shared = {i for i in as_long if known.shared.get(i) == size}
        doubtful = sorted(as_long - shared - known.own)
        if doubtful and size > 1:
            shared |= self._doubted(batch, size, shared, doubtful, known)
        marked = _marked(batch, shared | other.keys())
        if not known.whole_fits and size > 1 and goes_whole(marked, size):
            self._check_whole(marked, size)
            known.whole_fits = True
        return marked

    def _check_whole(self, batch: Any, size: int) -> None:
        question = _Question(self._network, batch, size, set())
        fits = question.alone([set()])
        if not fits and self._network.look(batch).asked:
            fits = question.left_out([set()])
        if not fits:
            raise whole_does_not_fit(batch, size)

    def _doubted(
        self, batch: Any, size: int, shared: set[int], doubtful: list[int], known: _Known
    ) -> set[int]:
        known.batches += 1
        is_power_of_two = not known.batches & (known.batches - 1)
        if not is_power_of_two and known.open.isdisjoint(doubtful):
            known.unasked.update(doubtful)
            return set()
        looking = self._network.look(batch)
        leaves = leaves_of(batch)
        # What is only asked, ``if mask.any()``, is the samples' own, as masks are.
        known.own |= (looking.asked - looking.told - looking.reaching) & set(doubtful)
        told = looking.told | looking.reaching
        asked = [i for i in doubtful if i in told or not isinstance(leaves[i], Tensor)]
        if not asked:
            return set()
        question = _Question(self._network, batch, size, shared)
        readings = question.alone(list(_subsets(asked)))
        if not readings and looking.asked:
            readings = question.left_out(list(_subsets(asked)))
        if not readings and question.fitting == [set()]:
            first = next(i for i, leaf in enumerate(leaves) if entries_of(leaf) == size)
            if question.alone([{first, *reading} for reading in _subsets(asked)]):
                raise ValueError(
                    "all samples seem to share the batch's first tensor, but its entries are what "
                    f"counts as samples: put it behind what each has of its own. {_REMEDY}"
                )
            readings = [set()]  # the samples depend on each other, and sizes tell
        if not readings:
            raise ValueError(
                f"a batch has {size} samples, and several of its parts have {size} entries: which "
                "of them belong to one sample each, and which to all, cannot be seen from the "
                f"output. {_REMEDY}"
            )
        always, ever = set.intersection(*readings), set.union(*readings)
        if always & known.unasked:
            raise _mistaken(f"a part of {size} entries is what all samples share")
        known.shared |= dict.fromkeys(always, size)
        known.own |= set(asked) - ever
        known.open |= {i for i in ever - always if isinstance(leaves[i], Tensor)}
        return readings[0]


@dataclass
class _Known:
    """What is known of the parts of batches with one structure, by their numbers."""

    shared: dict[int, int] = field(default_factory=dict)
    """Those that all samples share, and how long they are."""
    own: set[int] = field(default_factory=set)
    """Those of which each sample has an entry."""
    unasked: set[int] = field(default_factory=set)
    """Those taken to be so in some batch in which it was not asked."""
    open: set[int] = field(default_factory=set)
    """Those that were used, and might have been either."""
    batches: int = 0
    """With parts of which it was not known."""
    whole_fits: bool = False
    """Whether samples alone have been seen to have the outputs that they have in a batch."""


class _Question:
    """What a batch's outputs say about readings: sets of parts that are shared.

    :param known: what is shared besides.
    """

    def __init__(self, network: Answering, batch: Any, size: int, known: set[int]) -> None:
        self._network, self._batch, self._size, self._known = network, batch, size, known
        self._whole = network(batch)
        precisions = [t.dtype for t in self._whole]
        precisions += [p.dtype for p in network.model.parameters() if p.is_floating_point()]
        kind = self._whole[0].device.type
        if torch.is_autocast_enabled(kind):
            precisions.append(torch.get_autocast_dtype(kind))
        eps = max(torch.finfo(dtype).eps for dtype in precisions)
        self._round_off, self._close = eps**0.75, eps**0.5
        self.fitting: list[set[int]] = []
        """Readings with which samples alone have outputs of the right shape."""

    def alone(self, readings: list[set[int]]) -> list[set[int]]:
        """Those with which samples have the outputs alone that they have in the batch."""
        size = self._size
        step = max(1, -(-size // _ALONE))
        lone = {0, size - 1, *range(0, size, step)}
        samples: list[slice | Tensor] = [slice(k, k + 1) for k in sorted(lone)]
        if size > 2:
            samples.append(torch.arange(0, size, 2))
        far = [0.0] * len(readings)
        for some in samples:
            for n, reading in enumerate(readings):
                if far[n] < math.inf:
                    far[n] = max(far[n], self._gap(reading, some))
        self.fitting = [r for r, gap in zip(readings, far, strict=True) if gap < math.inf]
        return self._nearest(readings, far)

    def left_out(self, readings: list[set[int]]) -> list[set[int]]:
        """Those with which the others have the same outputs when one of them is left out.

        With luck they go the way that they go with it. Samples that change places have to take
        their outputs with them, too.

        :return: at most one.
        """
        size, every = self._size, torch.arange(self._size)
        step = max(1, size // _LEFT_OUT)
        others: list[slice | Tensor] = [every[every != k] for k in range(0, size, step)]
        turned = [every.roll(1), every.flip(0)]
        far = [
            max(
                min(self._gap(reading, some) for some in others),
                *(self._gap(reading, some) for some in turned),
            )
            for reading in readings
        ]
        found = self._nearest(readings, far)
        return found if len(found) == 1 else []

    def _nearest(self, readings: list[set[int]], far: Sequence[float]) -> list[set[int]]:
        """Those with which outputs are nearest to what they should be; none if nowhere near."""
        least = min(far)
        if least > self._close:
            return []
        limit = max(least, self._round_off)
        return [r for r, gap in zip(readings, far, strict=True) if gap <= limit]

    def _gap(self, shared: set[int], samples: slice | Tensor) -> float:
        """How far samples are from their outputs in the batch; infinite for another shape."""
        marked = _marked(self._batch, self._known | shared)
        try:
            some = self._network(take(marked, samples, self._size))
        except Exception:  # whatever a model does with shapes that do not belong together
            return math.inf
        parts = [t[samples] for t in self._whole]
        if [t.shape for t in some] != [t.shape for t in parts]:
            return math.inf
        return max(map(_distance, some, parts, self._whole), default=0.0)


def goes_whole(batch: Any, size: int) -> list[Any]:
    """What of a batch goes whole to every sample, and may say something of each.

    Flags do not, nor do numbers, unless there are as many as samples: ``{sample: its length}``.
    """
    whole: list[Any] = []
    numbers: list[Any] = []
    for leaf in leaves_of(batch):
        part = leaf.part if isinstance(leaf, Shared) else leaf
        if isinstance(part, FLAGS) or (part is leaf and entries_of(part) == size):
            continue
        is_number = isinstance(part, (int, float)) or (
            isinstance(part, Tensor) and part.numel() == 1
        )
        (numbers if is_number else whole).append(part)
    return whole + (numbers if len(numbers) >= size else [])


def whole_does_not_fit(batch: Any, size: int) -> ValueError:
    """The error where samples depend on each other, or not all that is theirs was cut."""
    shown = list(dict.fromkeys(map(_shown, goes_whole(batch, size))))
    return ValueError(
        f"a batch of {size} samples holds {', '.join(shown[:3])}{', ...' * (len(shown) > 3)}, "
        "which went whole to every sample, as its length is not that of the batch. But a sample "
        "alone then has another output than in the batch: either samples depend on each other, or "
        "some of this is of one sample each. Give what samples have of their own as tensors or "
        f"arrays with an entry for each. {_REMEDY}"
    )


def _shown(part: Any) -> str:
    if isinstance(part, (Tensor, numpy.ndarray)):
        return f"a {type(part).__name__} of shape {tuple(part.shape)}"
    length = entries_of(part)
    return f"a {type(part).__name__}" + (f" of {length}" if length is not None else "")


def _mistaken(shown: str) -> ValueError:
    return ValueError(
        f"{shown}, but in a batch of as many samples each was taken to have an entry of it: what "
        f"was measured then is wrong. {_REMEDY}"
    )


def _distance(some: Tensor, part: Tensor, whole: Tensor) -> float:
    """The largest difference of a sample, in units of the largest output of a sample."""
    some, part, whole = (
        t.detach().double().nan_to_num().reshape(len(t), -1) for t in (some, part, whole)
    )
    difference, largest = (some - part).norm(dim=1).max(), whole.norm(dim=1).max()
    return float(difference / largest) if bool(largest) else float(difference and math.inf)


def _subsets(numbers: list[int]) -> Iterator[set[int]]:
    """All of them, the smallest first; of many only those of none, of one, or of all."""
    few = len(numbers) <= _FEW
    for length in range(len(numbers) + 1) if few else (0, 1, len(numbers)):
        yield from map(set, combinations(numbers, length))


def _marked(batch: Any, shared: set[int]) -> Any:
    if not shared:
        return batch
    numbers = count()

    def mark(leaf: Any) -> Any:
        return Shared(leaf) if next(numbers) in shared else leaf

    return map_leaves(mark, batch)
