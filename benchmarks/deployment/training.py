"""Trains a network, uses it, and trains it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from avalanche.benchmarks import GenericCLScenario
from avalanche.benchmarks.scenarios.deprecated.generic_benchmark_creation import (
    create_generic_benchmark_from_tensor_lists,
)
from avalanche.models import MTSimpleMLP
from avalanche.training.determinism.rng_manager import RNGManager
from scipy.stats import spearmanr
from torch import Tensor, nn

from avalanche_mas import Importance, MASPlugin, estimate_importance
from avalanche_mas.benchmarks import permuted_digits

from ..digits.strategy import make_strategy
from ..training.samples import accuracy, outputs_for, tensors
from .cell import EVERYTHING, DeploymentCell, DeploymentResult, DeploymentSettings, name_of

_Images = tuple[Tensor, Tensor]  # and their labels


def run_cell(cell: DeploymentCell) -> DeploymentResult:
    """Train, use, and train on."""
    benchmark, unseen = _benchmark(cell.settings, cell.seed)
    tests = [tensors(experience) for experience in benchmark.test_stream]
    first = {
        name_of(digits): _only(tests[0], digits) for digits in (*cell.settings.used, EVERYTHING)
    }
    streams = None if cell.used else "train"  # for finetuning, with λ = 0, it makes no difference
    plugin = MASPlugin(cell.lam or 0.0, streams=streams)
    training = cell.settings.training
    RNGManager.set_random_seeds(cell.seed)
    model = MTSimpleMLP(64, training.hidden_units)
    model.features[2] = nn.Identity()  # in the place of dropout
    strategy = make_strategy(model, training, plugin)
    strategy.train(benchmark.train_stream[0])
    before = {name: outputs_for(model, x, 0) for name, (x, _) in first.items()}

    truth = {
        name: _flat(estimate_importance(model, x, forward=lambda model, x: model(x, 0)))
        for name, (x, _) in first.items()
    }
    learnt = tensors(benchmark.train_stream[0])
    uses = [learnt if digits == EVERYTHING else _only(unseen, digits) for digits in cell.used]
    compared = truth if cell.lam is None else {}
    seen, ends, correlation = _use(plugin, model, uses, cell.settings.arriving, compared)

    further = []
    for task, experience in enumerate(benchmark.train_stream):
        if task and cell.lam is not None:
            strategy.train(experience)
            further.append(accuracy(outputs_for(model, tests[task][0], task), tests[task][1]))
            plugin.observe(model, tensors(experience)[0], task)
    after = {name: outputs_for(model, x, 0) for name, (x, _) in first.items()}
    return DeploymentResult(
        seen,
        ends,
        correlation,
        before={name: accuracy(before[name], y) for name, (_, y) in first.items()},
        after={name: accuracy(after[name], y) for name, (_, y) in first.items()},
        changed={
            name: float((after[name] - before[name]).norm() / before[name].norm()) for name in first
        },
        further=sum(further) / len(further) if further else None,
    )


def _use(
    plugin: MASPlugin,
    model: nn.Module,
    uses: Sequence[_Images],
    size: int,
    truth: Mapping[str, Any],
) -> tuple[list[int], list[int], dict[str, list[float]]]:
    """Let images arrive; samples and rank correlations as they do, and samples after each use."""
    seen: list[int] = []
    ends: list[int] = []
    correlation: dict[str, list[float]] = {name: [] for name in truth}
    if not uses:
        return seen, ends, correlation
    with plugin.watch(model, fraction=1.0) as watched:
        for x, _ in uses:
            for arriving in torch.split(x, size):
                outputs_for(model, arriving, 0)
                if truth:
                    seen.append(watched.samples)
                    now = _flat(watched.importance)
                    for name, omega in truth.items():
                        correlation[name].append(float(spearmanr(now, omega).statistic))
            ends.append(watched.samples)
    return seen, ends, correlation


def _benchmark(settings: DeploymentSettings, seed: int) -> tuple[GenericCLScenario, _Images]:
    """A task with a head of its own for each order of the pixels, and unseen images of the first.

    The orders are those of :func:`permuted_digits`, whose tasks share a head.
    """
    permuted = permuted_digits(1 + settings.further_tasks, seed, settings.unseen)
    streams = [
        list(map(tensors, stream)) for stream in (permuted.train_stream, permuted.test_stream)
    ]
    labels = list(range(1 + settings.further_tasks))
    benchmark = create_generic_benchmark_from_tensor_lists(*streams, task_labels=labels)
    return benchmark, tensors(permuted.streams["valid"][0])


def _only(images: _Images, digits: tuple[int, ...]) -> _Images:
    x, y = images
    kept = torch.isin(y, torch.tensor(digits))
    return x[kept], y[kept]


def _flat(importance: Importance) -> Any:
    return torch.cat([omega.flatten() for omega in importance.values()]).numpy()
