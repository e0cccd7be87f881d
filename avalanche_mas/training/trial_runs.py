"""Trains an Avalanche strategy on trial, several times from the same state."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from typing import Any

from avalanche.benchmarks import CLExperience
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.evaluation.metrics import Accuracy
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate

from avalanche_mas.importance.engines.finite import NotFiniteError
from avalanche_mas.training.compat import repair_checkpointing


class Snapshot:
    """A strategy between two experiences, with all random numbers, to go back to.

    It is a checkpoint in memory, without the loggers. Unlike ``copy.deepcopy`` that keeps tensors
    together which share memory with a parameter, as those of Avalanche's SI do on a CPU.

    :param strategy: the strategy, which stays as it is.
    """

    def __init__(self, strategy: SupervisedTemplate) -> None:
        repair_checkpointing()
        self._strategy = strategy
        self._loggers, strategy.evaluator.loggers = strategy.evaluator.loggers, []
        checkpoint = BytesIO()
        try:
            save_checkpoint(strategy, checkpoint)
        finally:
            strategy.evaluator.loggers = self._loggers
        self._checkpoint = checkpoint.getbuffer()

    def restore(self) -> SupervisedTemplate:
        """Sets the random numbers back, and makes a copy of the strategy as it was.

        :return: the copy, which has no loggers and shares nothing with the strategy.
        """
        with redirect_stdout(StringIO()):  # Avalanche prints a line for each device
            copied, _ = maybe_load_checkpoint(copy.copy(self._strategy), BytesIO(self._checkpoint))
        return copied

    def adopt(self, learnt: SupervisedTemplate) -> None:
        """Puts the strategy into the state of a copy; its loggers are back.

        :param learnt: a copy from :meth:`restore`, trained since.
        """
        vars(self._strategy).update(vars(learnt))
        self._strategy.evaluator.loggers = self._loggers


def train_finite(
    strategy: SupervisedTemplate, experience: CLExperience, ends: bool, options: Mapping[str, Any]
) -> bool:
    """Trains, and says whether the weights and the importance of what was learnt are finite.

    :param strategy: the strategy.
    :param experience: what it is trained on.
    :param ends: whether plugins do what they do at the end of an experience, such as measuring
        importance, which may take longer than the training. If not, only the weights are of use.
    :param options: for ``strategy.train``.
    """
    plugins = strategy.plugins
    try:
        strategy.plugins = plugins if ends else [_Stop(), *plugins]
        strategy.train(experience, **options)
    except _StoppedError:
        pass
    except NotFiniteError:
        return False
    except ValueError:
        if _is_finite(strategy):  # else the weights that have diverged are its cause
            raise
        return False
    finally:
        strategy.plugins = plugins
    return _is_finite(strategy)


def accuracy(
    strategy: SupervisedTemplate, experience: CLExperience, **loader_options: Any
) -> float:
    """The share of right answers that a strategy gives, by its own evaluation loop.

    Neither its metrics nor its loggers see it, and no random number is drawn.

    :param strategy: the strategy.
    :param experience: labelled data.
    :param loader_options: such as ``num_workers``, as for ``strategy.eval``.
    :return: a number in [0, 1].
    """
    answers, plugins = _Answers(), strategy.plugins
    random = {name: rng["save_state"]() for name, rng in RNGManager.random_generators.items()}
    strategy.plugins = [*(p for p in plugins if p is not strategy.evaluator), answers]
    try:
        strategy.eval([experience], **loader_options)
    finally:
        strategy.plugins = plugins
        for name, state in random.items():
            RNGManager.random_generators[name]["load_state"](state)
    return float(answers.metric.result())


class _StoppedError(Exception):
    """No error: the last epoch has ended."""


class _Stop(SupervisedPlugin):  # type: ignore[misc]
    """Leaves training before any other plugin hears of its end."""

    def after_training_exp(self, strategy: SupervisedTemplate, **kwargs: Any) -> None:
        raise _StoppedError


class _Answers(SupervisedPlugin):  # type: ignore[misc]
    """Counts right answers."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = Accuracy()

    def after_eval_iteration(self, strategy: SupervisedTemplate, **kwargs: Any) -> None:
        self.metric.update(strategy.mb_output, strategy.mb_y)


def _is_finite(strategy: SupervisedTemplate) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in strategy.model.parameters())
