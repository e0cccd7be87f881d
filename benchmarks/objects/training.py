"""Trains and measures a cell of an object recognition experiment."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from torch.optim import SGD

from avalanche_mas.benchmarks.sequence import TaskSequence
from avalanche_mas.models import MultiHead, multi_head, multi_head_alexnet, multi_head_small
from avalanche_mas.models.efficientnet import trained_part
from avalanche_mas.plugins.registry import METHODS

from ..training.result import StreamResult
from ..training.stream import train_and_measure
from .cell import FirstTask, ObjectCell, ObjectTraining
from .images import load

_LOADERS = 4  # that read and augment images from disk; another number draws other augmentations


class Schedule(SupervisedPlugin):  # type: ignore[misc]
    """Divides the learning rate by ten every so many epochs; each task starts with the whole one.

    The first task may have a learning rate and a batch size of its own.

    :param training: how the network is trained.
    """

    def __init__(self, training: ObjectTraining) -> None:
        super().__init__()
        self.training = training

    def before_train_dataset_adaptation(
        self, strategy: SupervisedTemplate, **kwargs: object
    ) -> None:
        """Set the task's batch size."""
        strategy.train_mb_size = self._of(strategy).batch_size

    def before_training_epoch(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Set the epoch's learning rate."""
        now = self._of(strategy)
        drops = strategy.clock.train_exp_epochs // now.drop_every if now.drop_every else 0
        for group in strategy.optimizer.param_groups:
            group["lr"] = now.learning_rate / 10**drops

    def _of(self, strategy: SupervisedTemplate) -> ObjectTraining | FirstTask:
        if strategy.experience.current_experience:  # of joint training it is the last one's
            return self.training
        return self.training.first or self.training


def run_cell(cell: ObjectCell) -> StreamResult:
    """Train and measure one cell."""
    return train(cell, load(cell), cell.options)


def train(
    cell: ObjectCell,
    benchmark: TaskSequence,
    options: dict[str, Any],
    plugins: Sequence[SupervisedPlugin] = (),
    classes: int | None = None,
) -> StreamResult:
    """Train and measure one cell on its benchmark.

    :param cell: what to train.
    :param benchmark: the cell's.
    :param options: of the method's plugin.
    :param plugins: further ones, which come after the method's.
    :param classes: those of a single head for all tasks; None: each task has its own head.
    """
    training = cell.training
    method = METHODS[cell.method]
    if training.augmented and method.records:  # no image is drawn twice
        options = {"targets": "recomputed", **options}
    parameters = inspect.signature(method.plugin).parameters if method.plugin else {}
    if "warmup_epochs" in parameters and classes is None:
        # The paper's LwF trains the new head first; so long, as in released code of EBLL.
        options = {"warmup_epochs": training.epochs, **options}
    schedule = [Schedule(training)] if training.drop_every or training.first else []
    return train_and_measure(
        benchmark,
        "valid" if cell.validation else "test",
        partial(_network, training.model, classes),
        partial(SGD, lr=training.learning_rate, momentum=training.momentum),
        method,
        cell.lam,
        training,
        cell.seed,
        classifier=None if classes is None else "head",
        options=options,
        further_plugins=[*schedule, *plugins],
        device="cuda" if torch.cuda.is_available() else "cpu",
        evaluation_batch=200,
        loaders=_LOADERS if training.augmented else 0,
    )


def _network(model: str, classes: int | None) -> nn.Module:
    network = _multi_head(model)
    if classes is None:
        return network
    head = nn.Linear(network.heads.in_features, classes)
    return nn.Sequential(OrderedDict(trunk=network.trunk, head=head))


def _multi_head(model: str) -> MultiHead:
    if model == "small":
        return multi_head_small()
    if model == "pretrained":
        return multi_head(trained_part())
    return multi_head_alexnet("IMAGENET1K_V1" if model == "alexnet" else model)
