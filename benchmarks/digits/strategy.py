"""Makes a strategy of Avalanche that trains a small network by SGD."""

from __future__ import annotations

import torch
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from torch.optim import SGD

from .cell import DigitsTraining


def make_strategy(
    model: nn.Module,
    training: DigitsTraining,
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
