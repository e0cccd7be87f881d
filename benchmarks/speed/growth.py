"""How the costs grow with the batch size, with the parameters and with the number of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from avalanche.training.plugins import EWCPlugin as AvalancheEWC
from avalanche.training.plugins import MASPlugin as AvalancheMAS
from torch import nn

from avalanche_mas import MASPlugin

from . import ways
from .clock import interleave
from .estimation import FLOOR
from .networks import Case, cnn, mlp
from .penalty import NONE, MakePlugin, one_step
from .rows import Row, Section, SpeedSettings

WIDTHS = (125, 250, 500, 1000, 2000, 4000)
LEARNED = (1, 2, 4, 8)
BATCH, STEP_BATCH = 64, 8
MOST_AT_ONCE = 64
"""Samples that vmap takes in one chunk; from there on its cost per sample stays the same."""

BATCH_WAYS = {FLOOR: ways.plain, "exact": ways.exact, "torch.func.vmap": ways.vmap}
WIDTH_WAYS = {
    FLOOR: ways.plain,
    "exact": ways.exact,
    "Avalanche MASPlugin": ways.avalanche,
}
PLUGINS: dict[str, MakePlugin | None] = {
    NONE: None,
    "MASPlugin, proximal step": partial(MASPlugin, step="proximal"),
    "Avalanche MASPlugin": AvalancheMAS,
    "Avalanche EWCPlugin": partial(AvalancheEWC, 1.0),
}

BATCH_SIZE_MLP, BATCH_SIZE_CNN = "batch size, MLP", "batch size, CNN"
PARAMETERS, PENALTY, EXPERIENCES = "parameters, importance", "parameters, penalty", "experiences"

TITLES = {
    BATCH_SIZE_MLP: ("Importance, MLP", "batch size", "ms per sample"),
    BATCH_SIZE_CNN: ("Importance, CNN", "batch size", "ms per sample"),
    PARAMETERS: (f"Importance, MLP, B={BATCH}", "parameters", "ms per batch"),
    PENALTY: (f"Penalty, MLP, B={STEP_BATCH}", "parameters", "ms added to a training step"),
    EXPERIENCES: (
        f"Penalty, MLP, B={STEP_BATCH}",
        "experiences learned before",
        "ms added to a training step",
    ),
}
"""Section → title and axes of its panel."""

BATCHES = {BATCH_SIZE_MLP: (1, 4, 16, 64, 256, 1024), BATCH_SIZE_CNN: (1, 4, 16, 64, 256)}

_Calls = dict[tuple[str, float], tuple[Callable[[], Any], int]]


def sections(settings: SpeedSettings, networks: Sequence[str]) -> list[Section]:
    """Batch size (on two networks), parameters (importance and penalty), tasks."""
    measures = {
        BATCH_SIZE_MLP: by_batch_size,
        BATCH_SIZE_CNN: by_batch_size,
        PARAMETERS: by_parameters,
        PENALTY: by_parameters,
        EXPERIENCES: by_experiences,
    }
    return [
        Section("growth", name, measure, ((name, settings),)) for name, measure in measures.items()
    ]


def by_batch_size(name: str, settings: SpeedSettings) -> Iterator[Row]:
    """Seconds per sample."""
    calls: _Calls = {}
    for size in BATCHES[name][:2] if settings.quick else BATCHES[name]:
        if name == BATCH_SIZE_CNN:
            case = _case(cnn(4 if settings.quick else 32), size, (3, 32, 32), settings)
        else:
            case = _case(_mlp(1000, settings), size, (784,), settings)
        for way, make in BATCH_WAYS.items():
            ready = make(case)
            calls[way, size] = ready.call, ready.samples
    yield from _timed(calls, settings)


def by_parameters(name: str, settings: SpeedSettings) -> Iterator[Row]:
    """Seconds per batch, or per training step, of an MLP of growing width."""
    calls: _Calls = {}
    for width in WIDTHS[:2] if settings.quick else WIDTHS:
        model = _mlp(width, settings)
        x = sum(parameter.numel() for parameter in model.parameters())
        case = _case(model, BATCH, (784,), settings)
        if name == PARAMETERS:
            for way, measure in WIDTH_WAYS.items():
                calls[way, x] = measure(case).call, 1
        else:
            for way, make in PLUGINS.items():
                calls[way, x] = one_step(model, case.x[:STEP_BATCH], make, 1), 1
    yield from _timed(calls, settings)


def by_experiences(name: str, settings: SpeedSettings) -> Iterator[Row]:
    """Seconds per training step after so many experiences."""
    model = _mlp(1000, settings)
    case = _case(model, STEP_BATCH, (784,), settings)
    calls: _Calls = {
        (way, learned): (one_step(model, case.x, make, learned), 1)
        for learned in (LEARNED[:2] if settings.quick else LEARNED)
        for way, make in PLUGINS.items()
    }
    yield from _timed(calls, settings)


def _mlp(width: int, settings: SpeedSettings) -> nn.Module:
    return mlp(width // 25 if settings.quick else width)


def _case(model: nn.Module, size: int, sample: tuple[int, ...], settings: SpeedSettings) -> Case:
    x = torch.randn(size, *sample).to(settings.device)
    return Case("", model.eval().to(settings.device), x, min(size, MOST_AT_ONCE))


def _timed(calls: _Calls, settings: SpeedSettings) -> Iterator[Row]:
    torch.set_num_threads(settings.threads)
    functions = {key: call for key, (call, _) in calls.items()}
    for number, key, seconds in interleave(functions, settings.rounds, settings.shortest):
        way, x = key
        yield Row(way, number, seconds / calls[key][1], x=x)
