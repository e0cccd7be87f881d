"""What a user might give to ``compare_methods``; a module, so that other processes find it."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from avalanche_mas.benchmarks import regression_sequence, task_sequence


def data(n, task, seed):
    """Two classes that lie in another direction in each task."""
    g = torch.Generator().manual_seed(1000 * seed + task)
    y = torch.arange(n) % 2
    x = torch.randn(n, 4, generator=g)
    x[:, task] += 4.0 * y - 2.0
    return TensorDataset(x, y)


def benchmark(seed=0, n=2, size=40):
    tasks = [(data(size, task, seed), data(20, task, 50 + seed)) for task in range(n)]
    return task_sequence(tasks, names=[f"task-{task}" for task in range(n)])


def numbers(seed):
    tasks = [
        TensorDataset(d.tensors[0], d.tensors[1][:, None].float()) for d in map(of(seed), (0, 1))
    ]
    return regression_sequence([(task, task) for task in tasks])


def of(seed):
    return lambda task: data(40, task, seed)


def model(width=6):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 2))


def one_output():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
