"""Networks and streams on which every method of the registry is tried, and what is asked of it."""

import random

import numpy as np
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from tiny_avalanche import FEATURES, Watch, clusters, dataset, naive, split
from torch import nn

from avalanche_mas.plugins.registry import METHODS

OURS = {name: method for name, method in METHODS.items() if method.ours and method.plugin}

# Enormous, how to train with it, and the share of the change by finetuning that may be left. A
# penalty's proximal step is stable for every λ; a distillation loss must not overshoot.
HUGE = {
    "weights": (1e8, {"lr": 0.02, "momentum": 0.9}, 6, 0.001),
    "outputs": (100.0, {"lr": 0.01}, 30, 0.3),
}


class Features(nn.Sequential):
    """Two layers. No ReLUs: one that no sample has reached is not protected, and may wake up."""

    def __init__(self, *extra):
        super().__init__(nn.Linear(FEATURES, 16), nn.Tanh(), *extra, nn.Linear(16, 12), nn.Tanh())


class OneHead(nn.Module):
    """One classifier for everything."""

    def __init__(self, features=None, classifier=None):
        super().__init__()
        self.features = features or Features()
        self.classifier = classifier or nn.Linear(12, 6)

    def forward(self, x):
        return self.classifier(self.features(x))


class ManyHeads(MultiTaskModule):
    """A classifier for each task."""

    def __init__(self, features=None):
        super().__init__()
        self.features = features or Features()
        self.classifier = MultiHeadClassifier(12)

    def forward(self, x, task_labels):
        return self.classifier(self.features(x), task_labels)


class Shared(nn.Sequential):
    """One layer used twice, under two names."""

    def __init__(self):
        layer = nn.Linear(12, 12)
        first = nn.Linear(FEATURES, 12)
        super().__init__(first, nn.Tanh(), layer, nn.Tanh(), layer, nn.Tanh())


def partly_frozen():
    """The first layer cannot be trained."""
    model = ManyHeads()
    model.features[0].requires_grad_(False)
    return model


def unequal():
    """Tasks of 2, 4 and 3 classes."""
    x, y = clusters(n_classes=9)
    tasks = [(0, 2), (2, 6), (6, 9)]
    parts = [(y >= low) & (y < high) for low, high in tasks]
    data = [dataset(x[p], y[p] - y[p].min(), task) for task, p in enumerate(parts)]
    options = {"one_dataset_per_exp": True, "class_ids_from_zero_in_each_exp": True}
    return nc_benchmark(data, data, 3, task_labels=True, shuffle=False, **options)


def many():
    """A benchmark of three tasks with a head each."""
    return split(task_labels=True)


def float64_heads():
    """Heads are made by Avalanche, in the default dtype."""
    torch.set_default_dtype(torch.float64)
    return ManyHeads()


# name → (the network, the benchmark)
CASES = {
    "one head": (OneHead, split),
    "growing head": (
        lambda: OneHead(classifier=IncrementalClassifier(12, initial_out_features=2)),
        split,
    ),
    "many heads": (ManyHeads, many),
    "unequal heads": (ManyHeads, unequal),
    "frozen layer": (partly_frozen, many),
    "shared layer": (lambda: ManyHeads(Shared()), many),
    "batchnorm and dropout": (
        lambda: ManyHeads(Features(nn.BatchNorm1d(16), nn.Dropout(0.2))),
        many,
    ),
    "float64": (float64_heads, lambda: split(task_labels=True, dtype=torch.float64)),
}


def make(method, model, strength, *others, **options):
    """A strategy with the method's plugin, and a plugin before and one after it."""
    before, after = (*others, None, None)[:2]
    chosen = [
        *([before] if before else []),
        *method.plugins(strength, classifier="classifier"),
        *([after] if after else []),
    ]
    return naive(model, *chosen, **options)


def finetuned(model, *others, **options):
    """The same without any method."""
    return naive(model, *others, **options)


def old_answers(model, x):
    """What a network says of the first task's two classes, as LwF softens it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        output = model(x, 0) if isinstance(model, MultiTaskModule) else model(x)
    for module, mode in modes.items():
        module.training = mode
    return (output[:, :2] / 2).softmax(1)


def guarded(method, stream):
    """The samples on which a method keeps the first task's answers while it learns the second."""
    experience = stream[0 if method.protects == "weights" else 1]
    return torch.stack([sample[0] for sample in experience.dataset])


def snapshot(strategy):
    """Everything of a training that nobody may change unseen, as plain bits."""
    model = strategy.model
    state = {f"state {name}": value.clone() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state[f"grad {name}"] = (
            torch.zeros(()) if parameter.grad is None else parameter.grad.clone()
        )
        state[f"trains {name}"] = torch.tensor(parameter.requires_grad)
    for name, module in model.named_modules():
        state[f"mode {name}"] = torch.tensor(module.training)
    for i, entry in enumerate(strategy.optimizer.state.values()):
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                state[f"optimizer {i} {name}"] = value.clone()
    state["torch"] = torch.get_rng_state()
    state["numpy"] = torch.from_numpy(np.random.get_state()[1].astype(np.int64))
    state["python"] = torch.tensor(random.getstate()[1])
    return state


def watching(callbacks):
    """A plugin that takes a snapshot at each of these callbacks."""
    watch = Watch(callbacks[0], snapshot)
    record = getattr(watch, callbacks[0])
    for callback in callbacks[1:]:
        setattr(watch, callback, record)
    return watch
