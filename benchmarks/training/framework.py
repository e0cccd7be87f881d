"""Finds λ and learning rate of each experience by the framework of De Lange et al. (TPAMI 2021)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from avalanche.benchmarks import CLExperience
from avalanche.training.templates import SupervisedTemplate

from avalanche_mas.plugins.registry import Method
from avalanche_mas.training.hyperparameters import DivergedError, continual_hyperparameters


@dataclass(frozen=True)
class Framework:
    """What the framework needs to know; see :func:`.continual_hyperparameters`."""

    learning_rates: tuple[float, ...]
    strength: float  # the λ that the first experience begins with, the same for all methods
    max_trials: int  # values of λ that are tried at most, for each experience
    drop_margin: float = 0.2  # p and α as published
    decay: float = 0.5
    held_out: float = 0.2  # share of each experience's training images to judge by, never learnt


class Learner:
    """Learns one experience after the other, each with what the framework finds for it.

    The search for λ begins where that of the experience before has ended, as in the code that De
    Lange et al. released. To begin with the largest one each time takes many more trials.

    :param method: how; one without a plugin has no λ, but a learning rate.
    :param framework: what the framework needs to know.
    :param held_out: for each experience, the data to judge by.
    """

    def __init__(
        self, method: Method, framework: Framework, held_out: Iterable[CLExperience]
    ) -> None:
        self.method = method
        self.framework = framework
        self.held_out = {part.current_experience: part for part in held_out}
        self.found: list[dict[str, Any]] = []
        """What was found for each experience, as plain values; None for NaN."""

    def __call__(self, strategy: SupervisedTemplate, step: list[CLExperience]) -> bool:
        """Learn an experience.

        :return: whether any of the trials that count has led to finite weights.
        """
        (experience,) = step
        choosing = self.method.plugin is not None
        begin = self.found[-1]["strength"] if self.found else self.framework.strength
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="with all strengths")  # it is in the record
            try:
                found = continual_hyperparameters(
                    strategy,
                    experience,
                    self.held_out[experience.current_experience],
                    set_strength=self.method.set_strength if choosing else None,
                    strength=begin if choosing else None,
                    learning_rates=self.framework.learning_rates,
                    drop_margin=self.framework.drop_margin,
                    decay=self.framework.decay,
                    max_trials=self.framework.max_trials,
                )
            except DivergedError:
                return False
        record = asdict(found)
        for trial in record["trials"]:
            trial["accuracy"] = None if math.isnan(trial["accuracy"]) else trial["accuracy"]
        self.found.append(record)
        return True
