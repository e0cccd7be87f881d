"""Trains and measures a cell of an object recognition experiment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from torch.optim import SGD

from avalanche_mas.benchmarks.sequence import TaskSequence
from avalanche_mas.models import multi_head, multi_head_alexnet, multi_head_small
from avalanche_mas.models.efficientnet import trained_part
from avalanche_mas.plugins.registry import METHODS

from ..training.stream import StreamResult, train_and_measure
from .cell import ObjectCell
from .images import load

_LOADERS = 4  # that read and augment images from disk; another number draws other augmentations


class DropLearningRate(SupervisedPlugin):  # type: ignore[misc]
    """Divides the learning rate by ten every so many epochs; each task starts with the whole one.

    :param learning_rate: the one that a task starts with.
    :param every: so many epochs.
    """

    def __init__(self, learning_rate: float, every: int) -> None:
        super().__init__()
        self.learning_rate, self.every = learning_rate, every

    def before_training_epoch(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Set the epoch's learning rate."""
        drops = strategy.clock.train_exp_epochs // self.every
        for group in strategy.optimizer.param_groups:
            group["lr"] = self.learning_rate / 10**drops


def run_cell(cell: ObjectCell) -> StreamResult:
    """Train and measure one cell."""
    return train(cell, load(cell), cell.options)


def train(
    cell: ObjectCell,
    benchmark: TaskSequence,
    options: dict[str, Any],
    plugins: Sequence[SupervisedPlugin] = (),
) -> StreamResult:
    """Train and measure one cell on its benchmark.

    :param cell: what to train.
    :param benchmark: the cell's.
    :param options: of the method's plugin.
    :param plugins: further ones, which come after the method's.
    """
    training = cell.training
    method = METHODS[cell.method]
    if training.augmented and method.records:  # no image is drawn twice
        options = {"targets": "recomputed", **options}
    schedule = (
        [DropLearningRate(training.learning_rate, training.drop_every)]
        if training.drop_every
        else []
    )
    return train_and_measure(
        benchmark,
        "valid" if cell.validation else "test",
        partial(_network, training.model),
        partial(SGD, lr=training.learning_rate, momentum=training.momentum),
        method,
        cell.lam,
        training,
        cell.seed,
        options=options,
        further_plugins=[*schedule, *plugins],
        device="cuda" if torch.cuda.is_available() else "cpu",
        evaluation_batch=200,
        loaders=_LOADERS if training.augmented else 0,
    )


def _network(model: str) -> nn.Module:
    if model == "small":
        return multi_head_small()
    if model == "pretrained":
        return multi_head(trained_part())
    return multi_head_alexnet("IMAGENET1K_V1" if model == "alexnet" else model)
