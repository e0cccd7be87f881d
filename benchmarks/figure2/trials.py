"""The small networks and tasks on which the properties of methods are tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.benchmarks import CLExperience, benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.models import SimpleMLP
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.plugins.registry import METHODS, Method

from ..digits.cell import DigitsTraining
from ..digits.strategy import make_strategy
from ..training.samples import outputs_for, tensors


@dataclass(frozen=True)
class Trial(DigitsTraining):
    """How the networks of the tests are trained, and on what."""

    hidden_units: int = 50
    learning_rate: float = 0.05
    momentum: float = 0.9
    batch_size: int = 32
    epochs: int = 2
    tasks: tuple[int, int] = (2, 10)  # after which memory is compared
    strengths: tuple[float, ...] = (1e-1, 1e1, 1e3)
    embedding: int = 8  # numbers in a target of the regression


def make_learner(
    method: Method,
    model: nn.Module,
    trial: Trial,
    strength: float | None,
    *others: SupervisedPlugin,
    criterion: nn.Module | None = None,
    **options: Any,
) -> SupervisedTemplate:
    """A strategy that learns with a method, which gets the name of the network's last module."""
    plugins = method.plugins(strength, classifier="classifier", **options)
    return make_strategy(model, trial, *plugins, *others, kind=method.strategy, criterion=criterion)


def make_network(trial: Trial, seed: int, outputs: int = 10) -> nn.Module:
    """An untrained network with one head; seeds all random numbers."""
    RNGManager.set_random_seeds(seed)
    model: nn.Module = SimpleMLP(
        outputs, input_size=64, hidden_size=trial.hidden_units, drop_rate=0.0
    )
    return model


def pretrained_network(experiences: Sequence[CLExperience], trial: Trial, seed: int) -> nn.Module:
    """A network that has learnt these experiences together, without the method."""
    model = make_network(trial, seed)
    joint = METHODS["joint"]
    make_learner(joint, model, trial, None).train(experiences)
    return model


def regression_tasks(trial: Trial, seed: int) -> Sequence[CLExperience]:
    """Tasks A and B with a vector for each class, drawn once, and no labels of any kind."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(10, trial.embedding, generator=generator)
    sets = []
    for experience in permuted_digits(2, seed).train_stream:
        x, y = tensors(experience)
        sets.append(AvalancheDataset([TensorDataset(x, vectors[y])]))
    found: Sequence[CLExperience] = benchmark_from_datasets(train=sets, test=sets).train_stream
    return found


def squared_error(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """The mean squared error on (inputs, vectors)."""
    x, y = data
    return float((outputs_for(model, x) - y).square().mean())
