"""Learns split digits by all processes together, and measures Ω by each alone and by all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from avalanche.models import SimpleMLP, as_multitask
from torch import Tensor

from avalanche_mas import Importance, MASPlugin, estimate_importance
from avalanche_mas.benchmarks import split_digits
from avalanche_mas.importance.parameters import checksum
from avalanche_mas.importance.team import Distributed, Team
from avalanche_mas.training import DataParallelNaive

from ..digits.cell import DigitsTraining
from ..digits.strategy import make_strategy


class Shown(NamedTuple):
    """What the processes have found."""

    processes: int
    device: str
    images: int
    """N of the last measurement."""
    seconds_alone: float
    """One process measures Ω of all images; that of the slowest."""
    seconds_together: float
    """The processes do it together."""
    difference: float
    """Between the two, the largest of an entry, relative to the entry."""
    same_bits: bool
    """Whether the processes have the same weights after training, and the same Ω in the plugin."""


def show(epochs: int, hidden: int, device: torch.device) -> Shown:
    """Trains, and measures in float64, by as many processes as there are.

    :param epochs: of training on each of five tasks.
    :param hidden: units of each of three hidden layers.
    :param device: of this process.
    """
    torch.manual_seed(0)
    mlp = SimpleMLP(2, input_size=64, hidden_size=hidden, hidden_layers=3, drop_rate=0)
    model, plugin = as_multitask(mlp, "classifier"), MASPlugin()
    benchmark = split_digits()
    training = DigitsTraining(
        hidden, learning_rate=0.05, momentum=0.9, batch_size=32, epochs=epochs
    )
    strategy = make_strategy(model, training, plugin, kind=DataParallelNaive, device=device)
    strategy.train(benchmark.train_stream)
    learnt = [*model.state_dict().values(), *(plugin.importance or {}).values()]
    team = Team.of("split", device)
    bits = team.all_gather([checksum(tensor) for tensor in learnt])

    images = torch.stack([x for task in benchmark.train_stream for x, *_ in task.dataset.eval()])
    model.double()

    def measure(distributed: Distributed) -> Importance:
        return estimate_importance(
            model,
            images.double(),
            forward=lambda network, x: network(x, 0),
            distributed=distributed,
        )

    alone, seconds_alone = _timed(team, lambda: measure("off"))
    together, seconds_together = _timed(team, lambda: measure("split"))
    return Shown(
        team.size,
        device.type,
        together.samples,
        seconds_alone,
        seconds_together,
        max(_difference(together[name], alone[name]) for name in alone),
        all(other == bits[0] for other in bits),
    )


def _timed(team: Team, measure: Callable[[], Importance]) -> tuple[Importance, float]:
    """What it gives, and the seconds that the slowest process took."""
    measure()  # for what only the first call has to do
    team.all_gather(None)
    start = time.perf_counter()
    importance = measure()
    if team.device.type == "cuda":
        torch.cuda.synchronize(team.device)
    return importance, max(team.all_gather(time.perf_counter() - start))


def _difference(ours: Tensor, theirs: Tensor) -> float:
    used = theirs != 0
    assert not bool(ours[~used].any())
    return float(((ours - theirs).abs()[used] / theirs[used]).max()) if bool(used.any()) else 0.0


@contextmanager
def joined() -> Iterator[tuple[torch.device, int]]:
    """Joins the processes of ``torchrun``, if this is one: by NCCL with a GPU each, or by gloo.

    :return: a context manager that gives this process's device and its rank.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = torch.cuda.device_count() > local_rank
    device = torch.device("cuda", local_rank) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    if "LOCAL_RANK" not in os.environ:
        yield device, 0
        return
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield device, dist.get_rank()
    finally:
        dist.destroy_process_group()
