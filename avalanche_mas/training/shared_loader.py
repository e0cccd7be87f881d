"""Mini-batches of which each process reads its own samples only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader
from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_mas.importance.team import Team


class Weight:
    """Which part of the present mini-batch's samples are this process's: n_r / n."""

    value = 1.0


class SharedLoader:
    """Every mini-batch of a loader, of which this process reads sample k mod P.

    The first process draws the mini-batches, and all take their part of these. A part has at least
    two samples, which BatchNorm needs: where a mini-batch has too few, only the first processes
    share it, and the others read its first two samples, with weight 0, since all must take part in
    the backward pass.

    :param loader: PyTorch's or Avalanche's.
    :param team: the processes.
    :param weight: is set before each mini-batch.
    """

    def __init__(self, loader: Any, team: Team, weight: Weight) -> None:
        if isinstance(loader, MultiDatasetDataLoader):
            loader.distributed_sampling = False  # Avalanche's has one order for all epochs, padded
        self._loader, self._team, self._weight = loader, team, weight
        self.datasets: list[Any] = getattr(loader, "datasets", None) or [loader.dataset]
        """What the samples are drawn from."""

    def __len__(self) -> int:
        return len(self._whole())

    def __iter__(self) -> Iterator[Any]:
        whole = self._whole()
        parts = _Parts(whole.batch_sampler, self._team)
        own = DataLoader(
            whole.dataset,
            batch_sampler=parts,
            num_workers=whole.num_workers,
            collate_fn=whole.collate_fn,
            pin_memory=whole.pin_memory,
            timeout=whole.timeout,
            worker_init_fn=whole.worker_init_fn,
            multiprocessing_context=whole.multiprocessing_context,
            generator=whole.generator,
            prefetch_factor=whole.prefetch_factor,
        )
        for i, batch in enumerate(own):
            self._weight.value = parts.weights[i]
            yield batch

    def _whole(self) -> DataLoader[Any]:
        """A loader of whole mini-batches."""
        if isinstance(self._loader, MultiDatasetDataLoader):
            whole: DataLoader[Any] = self._loader._get_loader()
            return whole
        plain: DataLoader[Any] = self._loader
        return plain


class _Parts:
    """This process's part of the mini-batches that a sampler draws."""

    def __init__(self, sampler: Any, team: Team) -> None:
        self._sampler, self._team = sampler, team
        self.weights: list[float] = []  # known as soon as the first part is

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[list[int]]:
        drawn = [list(batch) for batch in self._sampler]  # by all, so that their RNGs keep step
        (batches, *_) = self._team.all_gather(drawn if self._team.rank == 0 else [])
        parts = [self._part(batch) for batch in batches]
        self.weights = [weight for _, weight in parts]
        for part, _ in parts:
            yield part

    def _part(self, batch: list[int]) -> tuple[list[int], float]:
        sharing = max(1, min(self._team.size, len(batch) // 2))
        if self._team.rank >= sharing:
            return batch[:2], 0.0
        part = batch[self._team.rank :: sharing]
        return part, len(part) / len(batch)


def weighted_sum(weight: Weight, bucket: Any) -> torch.futures.Future[Tensor]:
    """Σ_r (n_r/n) g_r, the gradient of the mean over all samples of a mini-batch.

    :param weight: n_r/n of this process.
    :param bucket: a ``GradBucket`` of ``DistributedDataParallel``.
    """
    work = dist.all_reduce(bucket.buffer().mul_(weight.value), async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda sent: sent.value()[0])
    return summed
