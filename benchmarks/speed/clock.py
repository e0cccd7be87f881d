"""Times ways to do something against each other, so that what slows one round slows them all."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import pandas as pd
import torch

Key = TypeVar("Key", bound=Hashable)


def interleave(
    calls: Mapping[Key, Callable[[], object]], rounds: int, shortest: float
) -> Iterator[tuple[int, Key, float]]:
    """Times every call once in each round, in another random order each time.

    A ratio is taken between two timings of one round, which a machine that grows hot or busy slows
    alike, and never between processes. Right before it is measured, each call runs unmeasured: in
    an estimate over many batches, too, it finds the memory as it left it itself.

    :param calls: what to time. On CUDA the clock waits for the device before and after.
    :param rounds: how often.
    :param shortest: seconds of one timing; a quicker call is repeated, and the mean is given.
    :return: round, key and seconds of one call, as they are measured.
    """
    repeats = {key: _repeats(call, shortest) for key, call in calls.items()}
    order, shuffle = list(calls), random.Random(0).shuffle
    for number in range(rounds):
        shuffle(order)
        gc.collect()
        for key in order:
            calls[key]()
            yield number, key, _seconds(calls[key], repeats[key])


def _seconds(call: Callable[[], object], repeats: int = 1) -> float:
    """Mean duration of some calls in a row, without Python's garbage collection."""
    gc.disable()
    try:
        _synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        _synchronize()
        return (time.perf_counter() - start) / repeats
    finally:
        gc.enable()


def _repeats(call: Callable[[], object], shortest: float) -> int:
    """How many calls last long enough; the first one warms up, and is taken only if it is long."""
    if _seconds(call) > 10 * shortest:
        return 1
    return max(1, round(shortest / max(_seconds(call), 1e-9)))


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Quartiles(NamedTuple):
    """Median and quartiles of a figure over the rounds."""

    median: float
    low: float
    high: float


def quartiles(values: pd.Series[float]) -> Quartiles:
    """Median and quartiles of what each round gave."""
    low, median, high = values.quantile([0.25, 0.5, 0.75])
    return Quartiles(float(median), float(low), float(high))


def by_round(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each round, one column for each way: the paired figures.

    :param rows: with the columns ``way``, ``round`` and ``value``.
    """
    return rows.dropna(subset="value").pivot(index="round", columns="way", values="value")
