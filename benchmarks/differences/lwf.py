"""What Avalanche's LwFPlugin does otherwise than Li & Hoiem, 2016."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from avalanche.benchmarks import CLExperience
from avalanche.training.plugins import LwFPlugin as AvalancheLwF
from torch import nn

from avalanche_mas.benchmarks import split_digits
from avalanche_mas.plugins.lwf.plugin import LwFPlugin

from ..digits.cell import DigitsTraining
from ..training.samples import tensors
from .parts import MultiHead, Watch, as_tasks, batchnorm_of, learn, noise, relative
from .row import Pair, difference

_TESTS = "plugins/test_lwf.py"
_TEACHER = f"{_TESTS}::test_the_teacher_is_the_old_model_in_eval_mode"


@difference("LwF", "two answers of the old network to one mini-batch differ by (%)", _TEACHER)
def teacher_answers_at_random(training: DigitsTraining, seed: int) -> Pair:
    """The old network stays in train mode, with dropout on: what is distilled is noise in part."""

    def differ(teacher: nn.Module, strategy: Any) -> float:
        twin = copy.deepcopy(teacher)  # which may move its BatchNorm statistics
        with torch.no_grad():
            first, second = (twin(strategy.mb_x, 0) for _ in range(2))
        return 100 * relative(second, first)

    return _both(training, seed, differ)


@difference(
    "LwF",
    "BatchNorm's running mean of the old network moves in the next task, relative (%)",
    _TEACHER,
)
def teacher_drifts(training: DigitsTraining, seed: int) -> Pair:
    """The old network becomes one of the new task, and forgets what it should preserve."""

    def moved(teacher: nn.Module, strategy: Any) -> float:
        return 100 * relative(batchnorm_of(teacher)[0], strategy.old_mean)

    return _both(training, seed, moved)


@difference(
    "LwF",
    "updates of BatchNorm's statistics in each training step of the second task",
    f"{_TESTS}::test_batchnorm_statistics_move_once_per_step",
)
def student_is_forwarded_again(training: DigitsTraining, seed: int) -> Pair:
    """A second pass for the old heads costs time, and statistics move as with another momentum."""

    def updates(teacher: nn.Module, strategy: Any) -> float:
        steps = (strategy.clock.train_exp_epochs + 1) * len(strategy.dataloader)
        updated = batchnorm_of(strategy.model)[1] - strategy.old_updates
        return float(updated / steps)

    return _both(training, seed, updates)


def _both(training: DigitsTraining, seed: int, look: Callable[[nn.Module, Any], float]) -> Pair:
    """What is seen of the old network and the strategy when the second of two tasks was trained."""

    def seen(plugin: Any, teacher: Callable[[], nn.Module]) -> float:
        def begin(strategy: Any) -> None:
            mean, updates = batchnorm_of(strategy.model)
            strategy.old_mean, strategy.old_updates = mean.clone(), updates

        def end(strategy: Any) -> float | None:
            return look(teacher(), strategy) if strategy.clock.train_exp_counter else None

        first = Watch("before_training_exp", begin)
        last = Watch("after_training_epoch", end)
        model = MultiHead(training, seed, *noise(training))
        learn(model, training, _stream(training, seed), plugin, first, last)
        result: float = last.seen[-1]
        return result

    theirs, ours = AvalancheLwF(), LwFPlugin(targets="recomputed")
    return Pair(
        seen(theirs, lambda: theirs.lwf.prev_model),
        seen(ours, lambda: _present(ours._teacher)),
    )


def _stream(training: DigitsTraining, seed: int) -> Sequence[CLExperience]:
    """Two tasks of two digits, and full mini-batches: BatchNorm cannot train on a single sample."""
    parts = []
    for experience in split_digits(5, seed).train_stream[:2]:
        x, y = tensors(experience)
        full = len(x) - len(x) % training.batch_size
        parts.append((x[:full], y[:full]))
    return as_tasks(parts)


def _present(teacher: nn.Module | None) -> nn.Module:
    assert teacher is not None
    return teacher
