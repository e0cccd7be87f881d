"""Small networks and strategies, on which both sides of a difference are measured alike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from avalanche.benchmarks import CLExperience, benchmark_from_datasets
from avalanche.benchmarks.scenarios.deprecated.generic_benchmark_creation import (
    create_generic_benchmark_from_tensor_lists,
)
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import MASPlugin as AvalancheMAS
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from avalanche_mas import MASPlugin

from ..digits.cell import DigitsTraining
from ..digits.strategy import make_strategy
from ..training.samples import tensors
from .row import for_both

both_mas = for_both(AvalancheMAS, MASPlugin)

SIDE = 8
MAS_DEFECTS = "plugins/test_avalanche_defects.py"
PIXEL_WEIGHTS = "features.1.weight"  # of the networks below, shape (hidden units, pixels)


def features(training: DigitsTraining, *noise: nn.Module) -> nn.Sequential:
    """One hidden layer of ReLUs, with something in between."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, training.hidden_units), *noise, nn.ReLU()
    )


def noise(training: DigitsTraining) -> list[nn.Module]:
    """What behaves otherwise in train mode."""
    return [nn.BatchNorm1d(training.hidden_units), nn.Dropout(0.5)]


def single_head(training: DigitsTraining, seed: int, *noise: nn.Module) -> nn.Sequential:
    """A network for ten classes.

    :param training: how wide it is.
    :param seed: of its weights.
    :param noise: modules before the ReLU.
    """
    RNGManager.set_random_seeds(seed)
    parts = {
        "features": features(training, *noise),
        "head": nn.Linear(training.hidden_units, 10),
    }
    return nn.Sequential(OrderedDict(parts))


class MultiHead(MultiTaskModule):  # type: ignore[misc]
    """A network as :func:`single_head`, with a head for each task, made when the task comes."""

    def __init__(self, training: DigitsTraining, seed: int, *noise: nn.Module) -> None:
        super().__init__()
        RNGManager.set_random_seeds(seed)
        self.features = features(training, *noise)
        self.heads = MultiHeadClassifier(training.hidden_units)

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        """Scores of shape (samples, classes of the largest head)."""
        scores: Tensor = self.heads(self.features(x), task_labels)
        return scores


def head(task: int) -> str:
    """The name of the weight of a head of :class:`MultiHead`."""
    return f"heads.classifiers.{task}.classifier.weight"


class Watch(SupervisedPlugin):  # type: ignore[misc]
    """Calls a function with the strategy at one of Avalanche's callbacks and keeps the answers."""

    def __init__(self, callback: str, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.seen: list[Any] = []

        def record(strategy: SupervisedTemplate, **kwargs: object) -> None:
            self.seen.append(function(strategy))

        setattr(self, callback, record)


def learn(
    model: nn.Module,
    training: DigitsTraining,
    experiences: Iterable[CLExperience],
    *plugins: SupervisedPlugin,
    **options: Any,
) -> SupervisedTemplate:
    """Train on one experience after the other, each from a random state of its own."""
    made = make_strategy(model, training, *plugins, **options)
    for experience in experiences:
        RNGManager.set_random_seeds(experience.current_experience)
        made.train(experience)
    return made


def measure(
    model: nn.Module, training: DigitsTraining, experience: CLExperience, plugin: Any
) -> None:
    """Let a plugin do at the end of an experience what it does, without any training before."""
    made = make_strategy(model, training, plugin)
    made.train_epochs = 0
    made.train(experience)


def in_order(x: Tensor, y: Tensor) -> CLExperience:
    """One experience of these samples in this order."""
    data = AvalancheDataset([TensorDataset(x, y)])
    experience: CLExperience = benchmark_from_datasets(train=[data]).train_stream[0]
    return experience


def as_tasks(parts: Sequence[tuple[Tensor, Tensor]]) -> Sequence[CLExperience]:
    """An experience with a task label of its own for each pair of images and labels."""
    made = create_generic_benchmark_from_tensor_lists(
        parts, parts, task_labels=list(range(len(parts)))
    )
    stream: Sequence[CLExperience] = made.train_stream
    return stream


def sorted_by_class(experience: CLExperience) -> CLExperience:
    """The order in which Avalanche's ``nc_benchmark`` hands samples out."""
    x, y = tensors(experience)
    order = y.argsort(stable=True)
    return in_order(x[order], y[order])


def omega(importance: Mapping[str, Any]) -> dict[str, Tensor]:
    """Ω or F by parameter, of Avalanche's plugins or ours."""
    return {
        name: (value if isinstance(value, Tensor) else value.data).clone()
        for name, value in importance.items()
    }


def total(importance: Mapping[str, Any]) -> float:
    """The sum over all parameters."""
    return sum(float(value.sum()) for value in omega(importance).values())


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter, by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def relative(after: Tensor, before: Tensor) -> float:
    """‖after − before‖ over ‖before‖."""
    return float((after - before).norm() / before.norm())


def batchnorm_of(model: nn.Module) -> tuple[Tensor, int]:
    """The running mean of a network's BatchNorm, and how often it was updated."""
    (norm,) = (module for module in model.modules() if isinstance(module, nn.BatchNorm1d))
    assert norm.running_mean is not None
    assert norm.num_batches_tracked is not None
    return norm.running_mean, int(norm.num_batches_tracked)
