"""What Avalanche's JointTraining does otherwise than training on all data at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from avalanche.benchmarks import CLExperience
from avalanche.training.supervised import JointTraining as AvalancheJointTraining

from avalanche_mas import MASPlugin
from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.training import JointTraining

from ..digits.cell import DigitsTraining
from ..digits.strategy import make_strategy
from ..training.samples import tensors
from .parts import MultiHead, Watch, as_tasks
from .row import difference, for_both

_both = for_both(AvalancheJointTraining, JointTraining)
_TESTS = "plugins/test_joint.py"
_CLASSES = (2, 8)  # of the tasks
_SMALL = 50  # images in the first one


@difference(
    "joint",
    "times that an image of a task with 50 images is seen in an epoch, beside one of 1,038",
    f"{_TESTS}::test_avalanches_own_repeats_the_samples_of_small_tasks",
)
@_both
def small_tasks_are_repeated(kind: Any, training: DigitsTraining, seed: int) -> float:
    """Every task fills the same share of each mini-batch; this is no mean over the samples."""
    tasks = Watch(
        "after_forward",
        lambda s: s.mb_task_id if s.clock.train_exp_epochs == 0 else torch.tensor([]),
    )
    _trained(kind, training, seed, tasks)
    return int((torch.cat(tasks.seen) == 0).sum()) / _SMALL


@difference(
    "joint",
    "units of the heads that stand for no class, with tasks of 2 and 8 classes",
    f"{_TESTS}::test_heads_are_those_of_learning_in_sequence",
)
@_both
def heads_are_too_large(kind: Any, training: DigitsTraining, seed: int) -> float:
    """The upper bound then has another architecture than the methods it is the bound of."""
    model = _trained(kind, training, seed)
    units = (head.classifier.out_features for head in model.heads.classifiers.values())
    return float(sum(units) - sum(_CLASSES))


@difference(
    "joint",
    "share of the samples on which a MASPlugin then measures Ω (%)",
    f"{_TESTS}::test_importance_is_measured_on_all_experiences",
)
@_both
def plugins_see_the_first_task(kind: Any, training: DigitsTraining, seed: int) -> float:
    """What follows joint training protects the first of the tasks alone."""
    plugin = MASPlugin()
    _trained(kind, training, seed, plugin)
    assert plugin.importance is not None
    everything = sum(len(experience.dataset) for experience in _stream(seed))
    return 100 * plugin.importance.samples / everything


def _stream(seed: int) -> Sequence[CLExperience]:
    """A task of two digits with few images, and one of the other eight with all of theirs."""
    (experience,) = permuted_digits(1, seed).train_stream
    x, y = tensors(experience)
    few = y < _CLASSES[0]
    return as_tasks([(x[few][:_SMALL], y[few][:_SMALL]), (x[~few], y[~few] - _CLASSES[0])])


def _trained(kind: Any, training: DigitsTraining, seed: int, *plugins: Any) -> MultiHead:
    model = MultiHead(training, seed)
    make_strategy(model, training, *plugins, kind=kind).train(_stream(seed))
    return model
