"""Real Avalanche benchmarks, models and strategies, so small that a task takes milliseconds."""

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_tensor_classification_dataset as tensor_dataset,
)
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from torch import nn, optim

from avalanche_mas import (
    LocalMASPlugin,
    MASPlugin,
    estimate_importance,
    estimate_local_importance,
)

PLUGINS = [MASPlugin, LocalMASPlugin]
ESTIMATE = {MASPlugin: estimate_importance, LocalMASPlugin: estimate_local_importance}
FEATURES = 8


def clusters(n_classes=6, per_class=10, seed=0, dtype=torch.float32):
    """Gaussian clusters, sorted by class: x of shape (n, 8), and y."""
    centres, noise = (torch.Generator().manual_seed(number) for number in (0, seed + 1))
    y = torch.arange(n_classes).repeat_interleave(per_class)
    single = {"dtype": torch.float32}  # the same samples, whatever the default dtype is
    x = 2 * torch.randn(n_classes, FEATURES, generator=centres, **single)[y]
    return (x + torch.randn(len(y), FEATURES, generator=noise, **single)).to(dtype), y


def dataset(x, y, task=0):
    """Task-aware: samples are (x, y, task)."""
    return tensor_dataset(x, y, targets=y.tolist(), task_labels=task)


def split(n_experiences=3, task_labels=False, dtype=torch.float32, **options):
    """Two of six classes per experience; with task labels, every task counts classes from 0."""
    train, test = (dataset(*clusters(seed=seed, dtype=dtype)) for seed in (0, 1))
    options |= {"shuffle": False, "class_ids_from_zero_in_each_exp": task_labels}
    return nc_benchmark(train, test, n_experiences, task_labels=task_labels, **options)


def mlp(outputs=6, hidden=16):
    """One head for everything."""
    return nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class MultiHead(MultiTaskModule):
    """Shared features, and a head for each task."""

    def __init__(self, hidden=16, **options):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU())
        self.heads = MultiHeadClassifier(hidden, **options)

    def forward(self, x, task_labels):
        return self.heads(self.features(x), task_labels)


def naive(model, *plugins, optimizer=None, metrics=(), epochs=2, **options):
    """Finetuning with plugins: by default SGD with momentum and mini-batches of five samples."""
    return Naive(
        model=model,
        optimizer=optimizer or optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
        criterion=options.pop("criterion", nn.CrossEntropyLoss()),
        train_mb_size=5,
        eval_mb_size=7,
        train_epochs=epochs,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(*metrics, loggers=[]),
        **options,
    )


def train(strategy, experiences, **options):
    """Trains one experience after the other, each from the same random state."""
    for experience in experiences:
        torch.manual_seed(experience.current_experience)
        strategy.train(experience, **options)
    return strategy


def weights(model):
    """A copy of every parameter, by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_close(actual, expected, **tolerance):
    """Two mappings of the same tensors."""
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, check_stride=False, **tolerance)


def move(model, by=0.5):
    """Displaces every parameter, to see what pulls it back."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by)


class Watch(SupervisedPlugin):
    """Calls a function with the strategy at one of Avalanche's callbacks and keeps the answers."""

    def __init__(self, callback, function):
        super().__init__()
        self.seen = []

        def record(strategy, **kwargs):
            self.seen.append(function(strategy))

        setattr(self, callback, record)
