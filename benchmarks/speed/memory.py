"""Peak memory of importance above the loaded network and data, each figure in its own process."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import torch

from avalanche_mas.importance.rules import matmul

from .estimation import FIRST, FLOOR, FLOOR_BESIDE, QUARTERS, WAYS, ways_of
from .networks import NETWORKS, make_case
from .rows import Refused, Row, Section, SpeedSettings

PARAMETERS = "the parameters themselves"

LARGE = {"alexnet": 200}
"""Batches that are tried beside a network's own, by the ways that take a whole batch."""

WHOLE_BATCH = (FLOOR, "exact", QUARTERS, FIRST, "l-MAS", "Avalanche MASPlugin")
QUICK = (FLOOR, "exact", "Opacus")

_CLEAR_PEAK = "5"  # see proc(5), clear_refs


def sections(settings: SpeedSettings, networks: Sequence[str]) -> list[Section]:
    """One for each network and batch size.

    :raises RuntimeError: where peaks cannot be read.
    """
    if settings.device == "cpu" and not sys.platform.startswith("linux"):
        raise RuntimeError("peak memory is read from /proc, on Linux: leave out --part memory")
    if settings.quick:
        networks = networks[:1]
    found = []
    for network in networks:
        own = NETWORKS[network].batch[settings.quick]
        tried_here = [way for way in ways_of(network) if way != FLOOR_BESIDE]
        ways: dict[int, Sequence[str]] = {own: QUICK if settings.quick else tried_here}
        if network in LARGE and not settings.quick:
            ways[LARGE[network]] = WHOLE_BATCH
        for batch, tried in ways.items():
            calls = tuple((network, batch, way, settings) for way in tried)
            found.append(Section("memory", f"{network}, B={batch}", measure, calls))
    return found


def measure(network: str, batch: int, way: str, settings: SpeedSettings) -> Iterator[Row]:
    """Bytes of a call after a first one, so that what stays from one to the next is included."""
    torch.set_num_threads(settings.threads)
    case = make_case(network, settings.device, settings.quick, batch)
    if way == FLOOR:
        yield Row(PARAMETERS, 0, sum(p.nbytes for p in case.model.parameters()))
    tiny = make_case(network, settings.device, True, 8)  # quarters of it, too, are several samples
    with suppress(Refused), patch.multiple(matmul, MIN_ONEDNN_FLOPS=0, MIN_ONEDNN_SAMPLES=0):
        WAYS[way](tiny).call()  # code that is loaded when first needed is not counted
    del tiny
    with torch.no_grad():
        case.model(case.x[:2])
    before = _start(settings.device)
    try:
        ready = WAYS[way](case)
        ready.call()
        _start(settings.device)
        ready.call()
    except Refused as refusal:
        yield Row(way, 0, None, str(refusal))
        return
    yield Row(way, 0, _peak(settings.device) - before, ready.note)


def _start(device: str) -> int:
    """Forget the peak so far; returns the bytes in use."""
    gc.collect()
    if device == "cpu":
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
            trim(0)  # what was freed before, but kept for later, would be used unseen
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)
        return _status("VmRSS")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: str) -> int:
    if device == "cpu":
        return _status("VmHWM")
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def _status(key: str) -> int:
    """A line of this process' status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024
