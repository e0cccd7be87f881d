"""Which entries of a whole batch have been seen to be of the samples that a plan has there.

A plan is made from two and three samples. Many may lie otherwise: where a network groups a batch by
its size, or where no gradient reached some entries before, because a gate was closed or a text
empty. So gradients are asked again, see :meth:`.Backward.confirm`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ENOUGH_BY_HALVES = 8
"""From the outputs of random halves of the samples, gradients reach the entries of so many: another
order would show, unless it happens to keep the halves apart. Where samples change places in pairs,
that happens in 1 of 184 cases for 16 samples and one half, in 1 of 136 for 8 and two halves."""
ENOUGH_FOR_CERTAIN = 3
"""Whose the entries of so many samples are is certain: as many as a plan is made from."""

Place = tuple[int, int]
"""The number of a use of parameters in the plan, and of a tensor among its results."""


class Confirmed:
    """What has been seen so far, for one plan and number of samples.

    Of each :data:`Place` a tensor (B, m) that says for which samples, and which of their m entries.
    What holds for enough samples holds for all: otherwise, rare gates and long texts would be asked
    about for ever.
    """

    def __init__(self) -> None:
        self._entries: dict[Place, Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def is_whole(self, place: Place, per_sample: int) -> bool:
        """Whether nothing is left to be asked about a use."""
        known = self._entries.get(place)
        if known is None or known.shape[1] < per_sample:
            return False
        return bool(known[:, :per_sample].all())

    def lacks(self, place: Place, reached: Tensor) -> Tensor:
        """Whether some entries are not confirmed, as a tensor: no need to wait for the device."""
        known = self._known(place, *reached.shape)
        return (reached & ~known.to(reached.device, non_blocking=True)).any()

    def add_likely(self, place: Place, times: Tensor) -> None:
        """Notes how many times the outputs of random halves have reached entries."""
        known = self._known(place, *times.shape)
        known[:, times.sum(0) >= ENOUGH_BY_HALVES] = True

    def add_certain(self, place: Place, reached: Tensor) -> None:
        """Notes entries whose sample is certain."""
        known = self._known(place, *reached.shape)
        known |= reached
        known[:, known.sum(0) >= min(ENOUGH_FOR_CERTAIN, len(reached))] = True

    def _known(self, place: Place, size: int, per_sample: int) -> Tensor:
        """Of the first m entries of each sample: longer ones begin alike."""
        known = self._entries.get(place, torch.zeros(size, 0, dtype=torch.bool))
        if (more := per_sample - known.shape[1]) > 0:
            known = functional.pad(known, (0, more))
            self._entries[place] = known
        first: Tensor = known[:, :per_sample]
        return first


def reached_entries(delta: Tensor, dim: int | None, size: int) -> Tensor:
    """Which entries a gradient reaches: (B, m).

    What round-off leaves, as a difference of sums over the batch does, does not count.

    :param delta: with the samples in front.
    :param dim: of the m entries of each; None if there is one.
    """
    if not delta.numel():
        return torch.zeros(size, 1, dtype=torch.bool, device=delta.device)
    magnitude = delta.abs()
    hit = magnitude > magnitude.max() * torch.finfo(delta.dtype).eps ** 0.75  # NaN says nothing
    hit = hit.unsqueeze(1) if dim is None else hit.movedim(dim, 1)
    entries: Tensor = hit.reshape(*hit.shape[:2], -1).any(2)
    return entries


def random_halves(size: int) -> list[Tensor]:
    """One, or two, that are :data:`ENOUGH_BY_HALVES`; none for fewer samples."""
    generator = torch.Generator().manual_seed(size)
    number = -(-ENOUGH_BY_HALVES // (size // 2))
    drawn = [torch.randperm(size, generator=generator)[: size // 2] for _ in range(number)]
    return drawn if number <= 2 else []


def telling_parts(size: int) -> Tensor:
    """Parts of the samples, each in those parts that no other is in: shape (parts, B), bool."""
    numbers = torch.arange(1, size + 1)
    return numbers >> torch.arange(size.bit_length()).unsqueeze(1) & 1 == 1
