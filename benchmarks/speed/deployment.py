"""Time of inference that is watched, against the same inference that is not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from avalanche_mas.importance.engines.inference_pass import LocalMean
from avalanche_mas.importance.watch import FRACTION, Watch, call_again, watch_importance

from .clock import interleave
from .networks import Case, make_case
from .rows import Row, Section, SpeedSettings

PLAIN = "inference"
NETWORKS = ("mlp", "alexnet")
BATCHES = 4
"""Of one timing. At its end Ω is up to date, which costs less the longer one waits for it."""

_Call = Callable[[], object]


def plain(case: Case) -> _Call:
    """Inference as ever."""

    @torch.inference_mode()
    def call() -> None:
        for _ in range(BATCHES):
            case.model(case.x)

    return call


def local(case: Case, fraction: float = FRACTION) -> _Call:
    """The same, watched for l-MAS."""
    case = _apart(case)
    mean, infer = LocalMean(case.model, call_again), plain(case)
    Watch(case.model, mean, fraction).__enter__()

    def call() -> None:
        infer()
        mean.flush()

    return call


def whole(case: Case) -> _Call:
    """The same, watched for MAS, which takes a second pass over the measured samples."""
    case = _apart(case)
    watch_importance(case.model).__enter__()
    return plain(case)


def _apart(case: Case) -> Case:
    """With a model of its own, which is watched from now on: opening a context is not timed."""
    return replace(case, model=copy.deepcopy(case.model))


def quarter(case: Case) -> _Call:
    """Watched for l-MAS, a quarter of the samples."""
    return local(case, 1 / 4)


WAYS: dict[str, Callable[[Case], _Call]] = {
    PLAIN: plain,
    f"l-MAS of {FRACTION:.0%} of the samples": local,
    "l-MAS of 25%": quarter,
    f"MAS of {FRACTION:.0%}": whole,
}


def sections(settings: SpeedSettings, networks: Sequence[str]) -> list[Section]:
    """One for each network."""
    return [
        Section("deployment", name, measure, ((name, settings),))
        for name in NETWORKS
        if name in networks
    ]


def measure(network: str, settings: SpeedSettings) -> Iterator[Row]:
    """Seconds per sample."""
    torch.set_num_threads(settings.threads)
    case = make_case(network, settings.device, settings.quick)
    calls = {way: make(case) for way, make in WAYS.items()}
    for number, way, seconds in interleave(calls, settings.rounds):
        yield Row(way, number, seconds / (BATCHES * len(case.x)))
