"""Time of inference that is watched, against the same inference that is not, by batch size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from avalanche_mas.importance.gathering import GROUP, MAX_BYTES
from avalanche_mas.importance.watch import FRACTION, watch_importance, watch_local_importance

from .clock import interleave
from .networks import Case, make_case
from .rows import Row, Section, SpeedSettings

PLAIN = "inference"
NETWORKS = ("mlp", "alexnet")
BATCH_SIZES = (1, 8, 32)

_Call = Callable[[], object]


def plain(case: Case, samples: int) -> _Call:
    """Inference as ever."""

    @torch.inference_mode()
    def call() -> None:
        for _ in range(-(-samples // len(case.x))):
            case.model(case.x)

    return call


def local(case: Case, samples: int, fraction: float = FRACTION) -> _Call:
    """The same, watched for l-MAS."""
    case = _apart(case)
    watch_local_importance(case.model, fraction=fraction).__enter__()
    return plain(case, samples)


def whole(case: Case, samples: int) -> _Call:
    """The same, watched for MAS."""
    case = _apart(case)
    watch_importance(case.model).__enter__()
    return plain(case, samples)


def _apart(case: Case) -> Case:
    """With a model of its own, which is watched from now on: opening a context is not timed."""
    return replace(case, model=copy.deepcopy(case.model))


def quarter(case: Case, samples: int) -> _Call:
    """Watched for l-MAS, a quarter of the samples."""
    return local(case, samples, 1 / 4)


WAYS: dict[str, Callable[[Case, int], _Call]] = {
    PLAIN: plain,
    f"l-MAS of {FRACTION:.0%} of the samples": local,
    "l-MAS of 25%": quarter,
    f"MAS of {FRACTION:.0%}": whole,
}


def sections(settings: SpeedSettings, networks: Sequence[str]) -> list[Section]:
    """One for each network and batch size."""
    return [
        Section("deployment", f"{name}, B={size}", measure, ((name, size, settings),))
        for name in NETWORKS
        if name in networks
        for size in BATCH_SIZES
    ]


def measure(network: str, batch_size: int, settings: SpeedSettings) -> Iterator[Row]:
    """Seconds per sample, over as many calls as there are until a group of samples is measured."""
    torch.set_num_threads(settings.threads)
    case = make_case(network, settings.device, settings.quick, batch_size)
    group = min(GROUP, MAX_BYTES // case.x[0].nbytes + 1)
    samples = 2 * batch_size if settings.quick else round(group / FRACTION)
    calls = {way: make(case, samples) for way, make in WAYS.items()}
    for number, way, seconds in interleave(calls, settings.rounds, settings.shortest):
        yield Row(way, number, seconds / (-(-samples // batch_size) * batch_size))
