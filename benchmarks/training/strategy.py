"""Makes a strategy of Avalanche that trains a small network by SGD."""

from __future__ import annotations

from typing import Protocol

import torch
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from torch.optim import SGD


class Length(Protocol):
    """How long a network is trained on each experience."""

    @property
    def batch_size(self) -> int:
        """Samples in a step."""

    @property
    def epochs(self) -> int:
        """Passes over the samples."""


class SGDTraining(Length, Protocol):
    """How a network is trained by SGD."""

    @property
    def learning_rate(self) -> float:
        """A constant."""

    @property
    def momentum(self) -> float:
        """0 for none."""


def make_strategy(
    model: nn.Module,
    training: SGDTraining,
    *plugins: SupervisedPlugin,
    kind: type[SupervisedTemplate] = Naive,
    criterion: nn.Module | None = None,
    weight_decay: float = 0.0,
    device: str | torch.device = "cpu",
) -> SupervisedTemplate:
    """A strategy with SGD, these plugins, and no metrics.

    :param criterion: None: cross-entropy.
    """
    optimizer = SGD(
        model.parameters(), training.learning_rate, training.momentum, weight_decay=weight_decay
    )
    return kind(
        model=model,
        optimizer=optimizer,
        criterion=criterion or nn.CrossEntropyLoss(),
        train_mb_size=training.batch_size,
        eval_mb_size=training.batch_size,
        train_epochs=training.epochs,
        device=device,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loggers=[]),
    )
