"""What Figure 2 of the paper says of methods, as tests that a method passes or fails.

All of them on real handwriting: a small network learns digits (task A), then the same digits with
their pixels in another order (task B). A method protects A if, for some strength, what it knows of
A suffers less than half as much as by finetuning.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.evaluation import method_memory
from avalanche_mas.plugins.registry import METHODS, Method

from ..training.memory import Held
from ..training.samples import accuracy, outputs_for, tensors
from .trials import (
    Trial,
    make_learner,
    make_network,
    pretrained_network,
    regression_tasks,
    squared_error,
)

_PROTECTED = 0.5  # what may be left of the harm that finetuning does
_GROWN = 1.01  # of memory, by which it counts as constant


@dataclass(frozen=True)
class Finding:
    """What a test found."""

    holds: bool | None  # None: the question makes no sense for the method
    reason: str  # the numbers, or the error


def constant_memory(method: Method, trial: Trial, seed: int) -> Finding:
    """Is as much kept, while and after a task is learnt, with ten tasks as with two?"""
    stream = permuted_digits(max(trial.tasks), seed).train_stream
    held = Held()
    strategy = make_learner(method, make_network(trial, seed), trial, trial.strengths[0], held)
    strategy.train_epochs = 1
    kept = []
    for experience in stream:
        strategy.train(experience)
        kept.append(max(held.bytes, method_memory(strategy)) / 1000)
    few, many = (kept[n - 1] for n in trial.tasks)
    numbers = f"{few:.0f} KB with {trial.tasks[0]} and {many:.0f} KB with {trial.tasks[1]} tasks"
    return Finding(many <= _GROWN * few, f"keeps {numbers}")


def problem_agnostic(method: Method, trial: Trial, seed: int) -> Finding:
    """Does it protect a network that predicts vectors, by squared error?"""
    a, b = regression_tasks(trial, seed)
    old = tensors(a)

    def rise(method: Method, strength: float | None) -> float:
        # for what must know how outputs are distributed
        gaussian = {"likelihood": "gaussian"} if _has(method, "likelihood") else {}
        strategy = make_learner(
            method,
            make_network(trial, seed, trial.embedding),
            trial,
            strength,
            criterion=nn.MSELoss(),
            **gaussian,
        )
        strategy.train(a)
        before = squared_error(method.final_model(strategy), old)
        strategy.train(b)
        return squared_error(method.final_model(strategy), old) - before

    return _compare(method, trial, rise, "task A's squared error rises by")


def on_pretrained(method: Method, trial: Trial, seed: int) -> Finding:
    """Does it protect what a network can that it has not seen being trained, given A's data?"""
    a, *_ = permuted_digits(2, seed).train_stream
    return _protects_pretrained(method, trial, seed, a.dataset)


def unlabelled_data(method: Method, trial: Trial, seed: int) -> Finding:
    """The same, given the images of A without their labels."""
    if method.protects == "outputs":
        return Finding(None, "learns nothing from data of old tasks, labelled or not")
    a, *_ = permuted_digits(2, seed).train_stream
    return _protects_pretrained(method, trial, seed, tensors(a)[0])


def adaptive(method: Method, trial: Trial, seed: int) -> Finding:
    """Does it protect those abilities that the network is used for, and let go of the others?

    The network has learnt the digits in two orders of their pixels, together. It is deployed on one
    of the orders, of which the method sees images without labels; then the network learns a third.
    Its outputs for the order that it is used for must change less than half as much as if it were
    used for the other.
    """
    if method.protects == "outputs":
        return Finding(False, "learns nothing from data of old tasks")
    benchmark = permuted_digits(3, seed)
    *both, b = benchmark.train_stream
    pretrained = pretrained_network(both, trial, seed)
    used = [tensors(experience)[0] for experience in both]
    tests = [tensors(experience)[0] for experience in benchmark.test_stream[:2]]
    before = [outputs_for(pretrained, x) for x in tests]
    gains = []
    for strength in trial.strengths:
        change = torch.empty(2, 2)  # deployed on, looked at
        for i, images in enumerate(used):
            try:
                strategy = _informed(method, pretrained, trial, seed, strength, images)
                strategy.train(b)
            except Exception as error:  # whatever it is, it is the answer
                return Finding(False, _name(error))
            for j, (x, old) in enumerate(zip(tests, before, strict=True)):
                change[i, j] = (outputs_for(method.final_model(strategy), x) - old).square().mean()
        gains.append(float((change[0, 1] + change[1, 0]) / change.trace()))
    gain = max(gains)
    return Finding(
        1 / gain < _PROTECTED,
        f"outputs change {gain:.1f} times less for what the network is used for, at best",
    )


PROPERTIES: dict[str, Callable[[Method, Trial, int], Finding]] = {
    "constant memory": constant_memory,
    "problem agnostic": problem_agnostic,
    "on pretrained": on_pretrained,
    "unlabelled data": unlabelled_data,
    "adaptive": adaptive,
}


def _protects_pretrained(method: Method, trial: Trial, seed: int, data: Any) -> Finding:
    benchmark = permuted_digits(2, seed)
    a, b = benchmark.train_stream
    pretrained, (x, y) = pretrained_network([a], trial, seed), tensors(benchmark.test_stream[0])
    before = accuracy(outputs_for(pretrained, x), y)

    def loss(method: Method, strength: float | None) -> float:
        strategy = _informed(method, pretrained, trial, seed, strength, data)
        strategy.train(b)
        return before - accuracy(outputs_for(method.final_model(strategy), x), y)

    return _compare(method, trial, loss, "points of accuracy on task A that are lost:", 100)


def _informed(
    method: Method,
    pretrained: nn.Module,
    trial: Trial,
    seed: int,
    strength: float | None,
    data: Any,
) -> SupervisedTemplate:
    """A strategy with a copy of a network, whose method has been given what it was trained on.

    By the plugin's ``prime``, or else as an experience of these data that takes no epoch.
    """
    RNGManager.set_random_seeds(seed)
    strategy = make_learner(method, copy.deepcopy(pretrained), trial, strength)
    primed = [plugin for plugin in strategy.plugins if hasattr(plugin, "prime")]
    if primed:
        primed[0].prime(strategy.model, data)
    elif method.plugin is not None:
        bare = AvalancheDataset([TensorDataset(data)]) if isinstance(data, Tensor) else data
        strategy.train_epochs = 0
        strategy.train(benchmark_from_datasets(train=[bare]).train_stream[0])
        strategy.train_epochs = trial.epochs
    return strategy


def _compare(
    method: Method,
    trial: Trial,
    harm: Callable[[Method, float | None], float],
    what: str,
    unit: float = 1.0,
) -> Finding:
    """Hold a method's harm against that of finetuning, with the strength that suits it best."""
    finetuning = harm(METHODS["finetuning"], None)
    harms = {}
    for strength in trial.strengths:
        try:
            found = harm(method, strength)
        except Exception as error:  # whatever it is, it is the answer
            return Finding(False, _name(error))
        harms[found if math.isfinite(found) else math.inf] = strength
    least = min(harms)
    numbers = f"{what} {unit * least:.2g} at best, {unit * finetuning:.2g} by finetuning"
    same = ", the same at every strength" if set(harms) == {finetuning} else ""
    return Finding(least < _PROTECTED * finetuning, numbers + same)


def _has(method: Method, option: str) -> bool:
    """Whether the method's plugin has an option."""
    return method.plugin is not None and option in inspect.signature(method.plugin).parameters


def _name(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
