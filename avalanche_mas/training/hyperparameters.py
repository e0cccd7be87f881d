"""λ and the learning rate of each new task, found on that task's data alone.

The framework of De Lange et al., *A continual learning survey: defying forgetting in classification
tasks* (TPAMI 2021), Algorithm 1. Before a task is learnt,

1. *maximal plasticity search*: copies of the network are finetuned with several learning rates η.
   The best accuracy A* on the task's validation data, with η*, is what the task can give;
2. *stability decay*: the task is learnt with η* and the largest λ that is wanted. While the
   accuracy A on the validation data is below (1 − p) A*, λ is multiplied by α, and the task is
   learnt once more, from where it began.

So λ is as large as the new task allows, and no data of other tasks are looked at. ::

    method = METHODS["MAS"]
    strategy = Naive(model=model, optimizer=optimizer, plugins=method.plugins(1.0), ...)
    for experience, validation in zip(benchmark.train_stream, benchmark.valid_stream):
        found = continual_hyperparameters(
            strategy, experience, validation, set_strength=method.set_strength, strength=1e3
        )
        print(found.learning_rate, found.strength, pandas.DataFrame(found.trials))
        strategy.eval(benchmark.test_stream)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from avalanche.benchmarks import CLExperience
from avalanche.training.templates import SupervisedTemplate
from tqdm.auto import tqdm

from avalanche_mas.training.trial_runs import Snapshot, accuracy, train_finite

LEARNING_RATES = (1e-2, 5e-3, 1e-3, 5e-4, 1e-4)
"""The grid of the code that De Lange et al. released."""

Phase = Literal["plasticity", "stability"]


@dataclass(frozen=True)
class Trial:
    """One training on the new task.

    :param phase: what it was for.
    :param learning_rate: η.
    :param strength: λ, which is 0 in finetuning.
    :param accuracy: on the validation data; NaN if training diverged.
    """

    phase: Phase
    learning_rate: float
    strength: float
    accuracy: float


@dataclass(frozen=True)
class Hyperparameters:
    """What was found for a task, and how.

    :param learning_rate: η*.
    :param strength: the λ that was taken; None if there is none to choose.
    :param accuracy: A, of the network that has learnt the task with them.
    :param best_accuracy: A*, by finetuning.
    :param within_margin: whether A ≥ (1 − p) A*.
    :param trials: all trainings in their order, one row each of ``pandas.DataFrame(trials)``.
    """

    learning_rate: float
    strength: float | None
    accuracy: float
    best_accuracy: float
    within_margin: bool
    trials: tuple[Trial, ...]


class DivergedError(ValueError):
    """Training diverged with all hyper-parameters that could have been taken."""


def set_learning_rate(strategy: SupervisedTemplate, learning_rate: float) -> None:
    """Set the learning rate of all parameter groups of a strategy's optimizer.

    :param strategy: the strategy.
    :param learning_rate: η.
    """
    for group in strategy.optimizer.param_groups:
        group["lr"] = learning_rate


def continual_hyperparameters(
    strategy: SupervisedTemplate,
    experience: CLExperience,
    validation: CLExperience,
    *,
    set_strength: Callable[[SupervisedTemplate, float], None] | None,
    strength: float | None,
    learning_rates: Sequence[float] = LEARNING_RATES,
    drop_margin: float = 0.2,
    decay: float = 0.5,
    max_trials: int = 10,
    score: Callable[[SupervisedTemplate, CLExperience], float] = accuracy,
    set_learning_rate: Callable[[SupervisedTemplate, float], None] = set_learning_rate,
    verbose: bool = False,
    **train_options: Any,
) -> Hyperparameters:
    """Trains a strategy on its next experience with the λ and the learning rate that suit it.

    Called in place of ``strategy.train(experience)``, it leaves the strategy, and all random
    numbers, to the bit as that would have left them with the values that were taken: weights, Ω,
    metrics. Like after Avalanche's ``maybe_load_checkpoint``, model and plugins are other objects
    than before: look them up in the strategy. To be able to go on after an interruption, save a
    checkpoint after each experience, see :mod:`avalanche_mas.training.checkpoint`.

    Each trial starts from a checkpoint in memory. Loggers are silent in all of them, and are back
    afterwards. If an error is raised, the strategy is as it was.

    Defaults are those of De Lange et al. In the code that they released, a task begins with the λ
    that the one before has taken. To do so too, give that as ``strength``, which saves trials; but
    then λ never rises again after a task that took little.

    :param strategy: between two experiences; any of Avalanche's.
    :param experience: the new task's training data.
    :param validation: data of the same task that are not in ``experience``.
    :param set_strength: says to a strategy what λ is from now on, where 0 means finetuning;
        :meth:`.Method.set_strength` does for the methods of :mod:`.plugins.registry`. It must look
        the plugin up in the strategy that it gets. None: the method has no λ; the task is finetuned
        with η*.
    :param strength: the λ to begin with, the largest that is wanted.
    :param learning_rates: the grid for η; of equally good ones the first is taken.
    :param drop_margin: p in [0, 1), how much of A* may be given up for stability.
    :param decay: α in (0, 1).
    :param max_trials: try at most so many λ. If none is within the margin, the last one is taken,
        with a warning.
    :param score: how good a strategy is on ``validation``, the higher the better, at least 0.
    :param set_learning_rate: says to a strategy what η is, for those with a schedule of their own.
    :param verbose: show a progress bar.
    :param train_options: for ``strategy.train``, such as ``num_workers``.
    :return: the values that were taken, and all trials.
    :raises ValueError: for an option out of range, if ``validation`` is empty, the training data
        or of another task, or if a score is negative.
    :raises DivergedError: if training diverges with every learning rate, or still with the last λ.
    """
    _check_options(set_strength, strength, learning_rates, drop_margin, decay, max_trials)
    _check_data(experience, validation)
    trials: list[Trial] = []
    snapshot = Snapshot(strategy)

    def train(phase: Phase, eta: float, lam: float) -> tuple[SupervisedTemplate, float]:
        bar.set_postfix(phase=phase, lr=f"{eta:g}", strength=f"{lam:g}")
        trial = snapshot.restore()
        set_learning_rate(trial, eta)
        if set_strength is not None:
            set_strength(trial, lam)
        # What is finetuned to be compared with need not be consolidated.
        ends = phase == "stability" or set_strength is None
        finite = train_finite(trial, experience, ends, train_options)
        trials.append(Trial(phase, eta, lam, score(trial, validation) if finite else math.nan))
        bar.update()
        return trial, trials[-1].accuracy

    steps = len(learning_rates) + (0 if set_strength is None else max_trials)
    with tqdm(total=steps, desc="hyper-parameters", disable=not verbose, leave=False) as bar:
        learnt, best = strategy, -math.inf
        for rate in learning_rates:
            trial, found = train("plasticity", rate, 0.0)
            if found > best:
                learnt, eta, best = trial, rate, found
        if best == -math.inf:
            raise DivergedError(
                f"finetuning diverged with each of the learning rates {tuple(learning_rates)}: "
                "give smaller ones"
            )
        if best < 0:
            raise ValueError(f"score must not be negative, got {best:g} at best")
        if strength is None:
            snapshot.adopt(learnt)
            return Hyperparameters(eta, None, best, best, True, tuple(trials))
        for k in range(max_trials):
            lam = strength * decay**k
            learnt, found = train("stability", eta, lam)
            if within := found >= (1 - drop_margin) * best:
                break
    tried = f"strengths from {strength:g} down to {lam:g}"
    remedy = "Raise max_trials, or begin with a smaller strength."
    if math.isnan(found):
        raise DivergedError(f"training diverged with the last of the {tried}. {remedy}")
    if not within:
        warnings.warn(
            f"with all {tried}, accuracy stays below the margin: {found:.3g} with the last, which "
            f"is taken, {best:.3g} by finetuning. {remedy}",
            stacklevel=2,
        )
    snapshot.adopt(learnt)
    return Hyperparameters(eta, lam, found, best, within, tuple(trials))


def _check_options(
    set_strength: object,
    strength: float | None,
    learning_rates: Sequence[float],
    drop_margin: float,
    decay: float,
    max_trials: int,
) -> None:
    if (set_strength is None) != (strength is None):
        raise ValueError("give both set_strength and strength, or None for both")
    if strength is not None and not 0 < strength < math.inf:
        raise ValueError(f"strength must be a positive number, got {strength!r}")
    if not learning_rates or not all(0 < rate < math.inf for rate in learning_rates):
        raise ValueError(f"learning_rates must be positive numbers, got {learning_rates!r}")
    if not 0 <= drop_margin < 1:
        raise ValueError(f"drop_margin must lie in [0, 1), got {drop_margin!r}")
    if not 0 < decay < 1:
        raise ValueError(f"decay must lie between 0 and 1, got {decay!r}")
    if max_trials < 1:
        raise ValueError(f"max_trials must be at least 1, got {max_trials!r}")


def _check_data(experience: CLExperience, validation: CLExperience) -> None:
    if validation.dataset is experience.dataset:
        raise ValueError(
            "validation is the data to be trained on, which says nothing about what is learnt: "
            "hold a part of the task's data back"
        )
    if not len(validation.dataset):
        raise ValueError("validation has no samples")
    trained, held = (getattr(part, "task_labels", None) for part in (experience, validation))
    if trained is not None and held is not None and set(trained) != set(held):
        raise ValueError(
            f"validation is of task {sorted(set(held))}, the experience of task "
            f"{sorted(set(trained))}: give data of the same task"
        )
