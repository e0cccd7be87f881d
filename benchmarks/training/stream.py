"""Trains a network on a stream with one method, and measures all about it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from avalanche.benchmarks import CLExperience, CLScenario
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from torch.optim import Optimizer

from avalanche_mas.evaluation import (
    AccuracyMatrix,
    ErrorMatrix,
    final_accuracy,
    forgetting,
    method_memory,
)
from avalanche_mas.evaluation.accuracy_matrix import Matrix
from avalanche_mas.importance.engines.finite import NotFiniteError
from avalanche_mas.plugins.registry import Method
from avalanche_mas.training import JointTraining

from .memory import Held
from .result import StreamResult

_WORST = 1e30  # the error of a network that answers NaN or infinity, which JSON has no words for


class Length(Protocol):
    """How long a network is trained on each experience."""

    @property
    def batch_size(self) -> int:
        """Samples in a step."""

    @property
    def epochs(self) -> int:
        """Passes over the samples."""


class _Mark(SupervisedPlugin):  # type: ignore[misc]
    """Notes when its turn comes at the end of an experience."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def after_training_exp(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())


def train_and_measure(
    benchmark: CLScenario,
    stream: str,
    make_model: Callable[[], nn.Module],
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    method: Method,
    lam: float | None,
    training: Length,
    seed: int,
    classifier: str | None = None,
    options: Mapping[str, Any] | None = None,
    further_plugins: Sequence[SupervisedPlugin] = (),
    device: str = "cpu",
    evaluation_batch: int = 500,
    loaders: int = 0,
    learn: Callable[[SupervisedTemplate, list[CLExperience]], bool] | None = None,
    criterion: nn.Module | None = None,
    metric: Callable[..., Matrix] = AccuracyMatrix,
) -> StreamResult:
    """Train a fresh model on a benchmark's ``train`` stream, then and in between score it.

    :param benchmark: what to learn.
    :param stream: the name of the stream that accuracies are measured on.
    :param make_model: makes the untrained model; called after seeding.
    :param make_optimizer: makes the optimizer of the model's parameters.
    :param method: how to learn it.
    :param lam: the method's strength.
    :param training: how long to train.
    :param seed: of all random numbers drawn here.
    :param classifier: dotted name of the model's last module, for methods that must know it.
    :param options: further options of the method's plugin.
    :param further_plugins: those that do not belong to the method, such as a learning rate's.
    :param device: where to train.
    :param evaluation_batch: how many samples are evaluated together: for speed and memory only, as
        each is evaluated by itself.
    :param loaders: how many processes read the samples; 0: this one does.
    :param learn: trains on experiences, and says whether that went well; None:
        :func:`train_or_diverge`. It may put copies in the place of what the strategy holds.
    :param criterion: the loss; None: cross-entropy.
    :param metric: makes what is measured, given ``stream``.
    :return: the measurements. With joint training the accuracy matrix has its last row only. A
        network that diverged is trained no further, but scored on all that was to come.
    """
    RNGManager.set_random_seeds(seed)
    model = make_model()
    held = Held()
    strategy = method.strategy(
        model=model,
        optimizer=make_optimizer(model.parameters()),
        criterion=criterion or nn.CrossEntropyLoss(),
        train_mb_size=training.batch_size,
        train_epochs=training.epochs,
        eval_mb_size=evaluation_batch,
        plugins=[
            held,
            _Mark(),  # around the method's plugins: callbacks run in this order
            *method.plugins(lam, classifier=classifier, **(options or {})),
            _Mark(),
            *further_plugins,
        ],
        evaluator=EvaluationPlugin(metric(stream=stream), loggers=[]),
        device=device,
    )
    experiences = list(benchmark.train_stream)
    joint = issubclass(method.strategy, JointTraining)
    # Only experiences that were trained are evaluated: Avalanche gives a multi-head model a head
    # for any experience it is evaluated on, and its MASPlugin halves Ω of a head it has met.
    steps = [experiences] if joint else [[experience] for experience in experiences]
    seconds, diverged = 0.0, False
    memory: list[int] = []
    while_learning: list[int] = []
    for i, step in enumerate(steps):
        if not diverged:
            started = time.perf_counter()
            well = learn(strategy, step) if learn else train_or_diverge(strategy, step, loaders)
            seconds += time.perf_counter() - started
            diverged = not well
        (matrix,) = strategy.evaluator.metrics
        if diverged:
            matrix.after_training_exp(strategy)  # training did not come to where a row is started
        memory.append(method_memory(strategy))
        while_learning.append(max(held.bytes, memory[-1]))
        learnt = len(experiences) if joint else i + 1
        _evaluate(strategy, method, benchmark.streams[stream][:learnt], loaders)
    R = matrix.result()
    measured = np.ones(R.shape, bool) if joint else np.tri(*R.shape, dtype=np.bool_)
    lost = measured & ~np.isfinite(R)
    R[lost] = _WORST
    sign = -1 if isinstance(matrix, ErrorMatrix) else 1
    begin, end = (plugin for plugin in strategy.plugins if isinstance(plugin, _Mark))
    return StreamResult(
        accuracy=[[None if np.isnan(entry) else float(entry) for entry in row] for row in R],
        final_accuracy=final_accuracy(R),
        forgetting=None if joint else sign * forgetting(R),
        train_seconds=seconds,
        consolidation_seconds=float(np.sum(np.subtract(end.times, begin.times))),
        memory_bytes=memory[-1],
        weights_sha256=digest(strategy.model),
        diverged=diverged or bool(lost.any()),
        memory_after_each=memory,
        memory_while_learning=while_learning,
    )


def train_or_diverge(
    strategy: SupervisedTemplate, step: list[CLExperience], loaders: int = 0
) -> bool:
    """Train, and say whether the importance measured in the end is finite."""
    try:
        strategy.train(step, num_workers=loaders)
    except NotFiniteError:
        return False
    return True


def _evaluate(
    strategy: SupervisedTemplate,
    method: Method,
    experiences: Iterable[CLExperience],
    loaders: int,
) -> None:
    """Evaluate the network that the method answers with; training goes on with its own."""
    trained = strategy.model
    strategy.model = method.final_model(strategy)
    try:
        strategy.eval(experiences, num_workers=loaders)
    finally:
        strategy.model = trained


def digest(model: nn.Module) -> str:
    """Hash a model's parameters: equal only if every bit of them is."""
    found = hashlib.sha256()
    for parameter in model.parameters():
        found.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
