"""What Avalanche's JointTraining does otherwise than training on all data at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from avalanche.benchmarks import CLExperience
from avalanche.training.supervised import JointTraining as AvalancheJointTraining

from avalanche_mas import MASPlugin
from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.training import JointTraining

from ..digits.cell import DigitsTraining
from ..training.samples import tensors
from .parts import MultiHead, Watch, as_tasks, strategy
from .row import Pair, difference

_TESTS = "plugins/test_joint.py"
_CLASSES = (2, 8)  # of the tasks
_SMALL = 50  # images in the first one


@difference(
    "joint",
    "times that an image of a task with 50 images is seen in an epoch, beside one of 1,038",
    f"{_TESTS}::test_avalanches_own_repeats_the_samples_of_small_tasks",
)
def small_tasks_are_repeated(training: DigitsTraining, seed: int) -> Pair:
    """Every task fills the same share of each mini-batch; this is no mean over the samples."""

    def times(kind: Any) -> float:
        tasks = Watch(
            "after_forward",
            lambda s: s.mb_task_id if s.clock.train_exp_epochs == 0 else torch.tensor([]),
        )
        _trained(kind, training, seed, tasks)
        return int((torch.cat(tasks.seen) == 0).sum()) / _SMALL

    return _both(times)


@difference(
    "joint",
    "units of the heads that stand for no class, with tasks of 2 and 8 classes",
    f"{_TESTS}::test_heads_are_those_of_learning_in_sequence",
)
def heads_are_too_large(training: DigitsTraining, seed: int) -> Pair:
    """The upper bound then has another architecture than the methods it is the bound of."""

    def superfluous(kind: Any) -> float:
        model = _trained(kind, training, seed)
        units = (head.classifier.out_features for head in model.heads.classifiers.values())
        return float(sum(units) - sum(_CLASSES))

    return _both(superfluous)


@difference(
    "joint",
    "share of the samples on which a MASPlugin then measures Ω (%)",
    f"{_TESTS}::test_importance_is_measured_on_all_experiences",
)
def plugins_see_the_first_task(training: DigitsTraining, seed: int) -> Pair:
    """What follows joint training protects the first of the tasks alone."""

    def share(kind: Any) -> float:
        plugin = MASPlugin()
        _trained(kind, training, seed, plugin)
        assert plugin.importance is not None
        everything = sum(len(experience.dataset) for experience in _stream(seed))
        return 100 * plugin.importance.samples / everything

    return _both(share)


def _both(measured: Callable[[Any], float]) -> Pair:
    return Pair(measured(AvalancheJointTraining), measured(JointTraining))


def _stream(seed: int) -> Sequence[CLExperience]:
    """A task of two digits with few images, and one of the other eight with all of theirs."""
    (experience,) = permuted_digits(1, seed).train_stream
    x, y = tensors(experience)
    few = y < _CLASSES[0]
    return as_tasks([(x[few][:_SMALL], y[few][:_SMALL]), (x[~few], y[~few] - _CLASSES[0])])


def _trained(kind: Any, training: DigitsTraining, seed: int, *plugins: Any) -> MultiHead:
    model = MultiHead(training, seed)
    strategy(model, training, *plugins, kind=kind).train(_stream(seed))
    return model
