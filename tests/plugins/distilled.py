"""What the tests of LwF, EBLL and the warm-up share: streams, models, and the check of resuming."""

import copy

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from tiny_avalanche import (
    FEATURES,
    clusters,
    dataset,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn

SIZES = [(0, 2), (2, 6), (6, 9)]


def unequal(dtype=torch.float32):
    """Tasks of 2, 4 and 3 classes, each with its own head."""
    x, y = clusters(n_classes=9, dtype=dtype)
    data = []
    for task, (low, high) in enumerate(SIZES):
        own = (y >= low) & (y < high)
        data.append(dataset(x[own], y[own] - low, task))
    options = {"one_dataset_per_exp": True, "class_ids_from_zero_in_each_exp": True}
    return nc_benchmark(data, data, 3, task_labels=True, shuffle=False, **options).train_stream


class Noisy(MultiTaskModule):
    """Features with BatchNorm and dropout, and a head for each task; batches are split by task."""

    def __init__(self, hidden=16, **options):
        super().__init__()
        layers = nn.Linear(FEATURES, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.3)
        self.features = nn.Sequential(*layers)
        self.heads = MultiHeadClassifier(hidden, **options)

    def forward_single_task(self, x, task_label):
        return self.heads(self.features(x), task_label)


class Growing(nn.Module):
    """Features and a head that gets more units as classes come."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU())
        self.head = IncrementalClassifier(16, initial_out_features=2)

    def forward(self, x):
        return self.head(self.features(x))


class Shared(nn.Module):
    """One layer that is used twice, and a frozen one."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(FEATURES, FEATURES).requires_grad_(False)
        self.first = nn.Linear(FEATURES, FEATURES)
        self.again = self.first
        self.head = nn.Linear(FEATURES, 6)

    def forward(self, x):
        return self.head(self.again(self.first(self.frozen(x)).relu()).relu())


def state(model):
    """Parameters and buffers, copied."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_resumes(make_model, make_plugin, folder, **stream):
    """All at once, and two experiences, a checkpoint and the third, end with the same bits."""
    experiences = split(**stream).train_stream
    model = make_model()
    whole = train(naive(copy.deepcopy(model), make_plugin()), experiences)
    first = train(naive(copy.deepcopy(model), make_plugin()), experiences[:2])
    after_two = weights(first.model)
    file = folder / "checkpoint"
    save_checkpoint(first, file)
    resumed, start = maybe_load_checkpoint(naive(copy.deepcopy(model), make_plugin()), file)
    assert start == 2
    assert same_bits(weights(resumed.model), after_two)
    train(resumed, experiences[2:])
    assert same_bits(state(resumed.model), state(whole.model))
    fresh = train(naive(first.model, make_plugin(), optimizer=first.optimizer), experiences[2:])
    assert not same_bits(weights(fresh.model), weights(whole.model))  # what was saved matters
