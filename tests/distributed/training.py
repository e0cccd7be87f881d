"""Every method, trained by however many processes run this, with the same mini-batches."""

import random

import numpy
import torch
from avalanche.benchmarks.scenarios.dataset_scenario import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.distributed import DistributedHelper
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import IncrementalClassifier
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.supervised import Naive
from every_method import Features, ManyHeads, OneHead
from tiny_avalanche import clusters, mlp, split
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

from avalanche_mas import (
    EBLLPlugin,
    EWCPlugin,
    HeadWarmupPlugin,
    IMMPlugin,
    LocalMASPlugin,
    LwFPlugin,
    MASPlugin,
    QuadraticPenalty,
    SIPlugin,
    estimate_importance,
)
from avalanche_mas.importance.team import Team
from avalanche_mas.training import DataParallelJointTraining, DataParallelNaive

# 20 samples in an experience: mini-batches of 7, 7 and 6; or of 19 and 1, which one process takes
METHODS = {
    "finetuning": lambda: [],
    "MAS": lambda: [MASPlugin(10.0)],
    "MAS gradient": lambda: [MASPlugin(0.1, step="gradient")],
    "LocalMAS": lambda: [LocalMASPlugin(10.0)],
    "EWC": lambda: [EWCPlugin(10.0)],
    "SI": lambda: [SIPlugin(10.0)],
    "LwF": lambda: [LwFPlugin(1.0, classifier="classifier")],
    "LwF recomputed": lambda: [LwFPlugin(1.0, targets="recomputed", warmup_epochs=1)],
    "EBLL": lambda: [EBLLPlugin(classifier="classifier", autoencoder_epochs=3)],
    "IMM": lambda: [IMMPlugin(10.0)],
    "warm-up": lambda: [HeadWarmupPlugin(1), MASPlugin(10.0)],
}


def trained(strategy, stream, **options):
    """Weights, Ω and buffers after the stream."""
    random.seed(5)
    numpy.random.seed(5)
    torch.manual_seed(5)
    for experience in stream:
        strategy.train(experience, **options)
    state = {name: tensor.clone() for name, tensor in strategy.model.state_dict().items()}
    samples = 0
    for plugin in strategy.plugins:
        for name, omega in (getattr(plugin, "importance", None) or {}).items():
            state[f"omega of {name}"] = omega.clone()
            samples = plugin.importance.samples
    return state, samples


def strategy_of(model, plugins, kind=DataParallelNaive, size=7, metrics=(), **options):
    """SGD with momentum and weight decay, which would move what has a gradient of zero."""
    return kind(
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=size,
        eval_mb_size=8,
        train_epochs=2,
        plugins=plugins,
        evaluator=EvaluationPlugin(metrics, loggers=[]),
        **options,
    )


def methods():
    """Name → (state, samples) after three tasks with a head each, made when its task comes."""
    torch.set_default_dtype(torch.float64)
    found = {}
    for name, plugins in METHODS.items():
        torch.manual_seed(1)
        strategy = strategy_of(ManyHeads(), plugins())
        found[name] = trained(strategy, split(task_labels=True, dtype=torch.float64).train_stream)
    torch.set_default_dtype(torch.float32)
    return found


def situations():
    """The same with other models, data and strategies; all in float64."""
    torch.set_default_dtype(torch.float64)
    heads = split(task_labels=True, dtype=torch.float64).train_stream
    classes = split(dtype=torch.float64).train_stream
    growing = IncrementalClassifier(12, initial_out_features=2)
    torch.manual_seed(1)
    found = {
        "last mini-batch of one": trained(
            strategy_of(ManyHeads(), [MASPlugin(10.0)], size=19), heads
        ),
        "growing head": trained(
            strategy_of(OneHead(classifier=growing), [MASPlugin(10.0)]), classes
        ),
        "no task labels": trained(strategy_of(mlp(), [MASPlugin(10.0)]), _without_labels()),
        "joint": trained(strategy_of(ManyHeads(), [], DataParallelJointTraining), [list(heads)]),
        "evaluated meanwhile": trained(
            strategy_of(ManyHeads(), [MASPlugin(10.0)], eval_every=1), heads
        ),
        "a loop of one's own": own_loop(),
    }
    torch.set_default_dtype(torch.float32)
    return found


def own_loop():
    """No strategy: 12 samples in a step, with PyTorch's wrapper, which is put on in between."""
    torch.manual_seed(1)
    model, (x, y), team = mlp(), clusters(dtype=torch.float64), Team.of("split")
    omega = estimate_importance(model, x)
    penalty = QuadraticPenalty(model, omega, 10.0)
    wrapped = DistributedDataParallel(model) if team.size > 1 else model
    penalty.bind(wrapped)
    optimizer = optim.SGD(wrapped.parameters(), lr=0.05, momentum=0.9)
    with penalty.register(optimizer):
        for batch in torch.randperm(60, generator=torch.Generator().manual_seed(2)).split(12):
            own = batch[team.rank :: team.size]
            nn.functional.cross_entropy(wrapped(x[own]), y[own]).backward()
            optimizer.step()
            optimizer.zero_grad()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return state | {f"omega of {name}": tensor for name, tensor in omega.items()}, omega.samples


def evaluation():
    """Accuracy on the test stream, as each process finds it by itself."""
    torch.manual_seed(1)
    strategy = strategy_of(ManyHeads(), [], metrics=accuracy_metrics(experience=True, stream=True))
    benchmark = split(task_labels=True)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    return strategy.eval(benchmark.test_stream)


def _without_labels():
    x, y = clusters(dtype=torch.float64)
    data = [AvalancheDataset([TensorDataset(x[k::2], y[k::2])]) for k in range(2)]
    return benchmark_from_datasets(train=data).train_stream


def drifting():
    """Where P processes are not one: BatchNorm, dropout, a replay buffer, other starting weights.

    The processes must keep the same bits all the same.
    """
    rank = Team.of("split").rank
    found = {}
    for name, model, plugins in (
        (
            "batchnorm",
            lambda: ManyHeads(Features(nn.BatchNorm1d(16), nn.Dropout(0.2))),
            [MASPlugin()],
        ),
        ("replay", ManyHeads, [ReplayPlugin(12), MASPlugin()]),
        ("float32", ManyHeads, [MASPlugin(10.0)]),
    ):
        torch.manual_seed(rank)  # heads are drawn anew in each process
        strategy = strategy_of(model(), plugins, size=8)
        for experience in split(task_labels=True).train_stream:
            strategy.train(experience)
        found[name] = {
            **{key: tensor.clone() for key, tensor in strategy.model.state_dict().items()},
            **{f"omega of {key}": omega for key, omega in plugins[-1].importance.items()},
        }
    return found


def avalanches_own_way():
    """Avalanche's wrapper and its loaders: ``train_mb_size`` samples for each process, in order."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    model = mlp()
    team = Team.of("split")
    if team.size > 1:
        model = DistributedHelper.wrap_model(model)
    strategy = strategy_of(model, [MASPlugin(10.0)], Naive, size=12 // team.size)
    # 30 samples in an experience: Avalanche repeats some where they cannot be divided evenly
    found = trained(strategy, split(2, dtype=torch.float64).train_stream, shuffle=False)
    torch.set_default_dtype(torch.float32)
    return {name.removeprefix("module."): tensor for name, tensor in found[0].items()}, found[1]
