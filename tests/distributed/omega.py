"""Ω of the same data in every form, measured by however many processes run this."""

import torch
from tiny_avalanche import MultiHead, clusters, dataset, mlp, naive, split
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from avalanche_mas import (
    EWCPlugin,
    LocalMASPlugin,
    MASPlugin,
    estimate_fisher,
    estimate_importance,
    estimate_local_importance,
)
from avalanche_mas.importance.team import Team

N = 11  # neither 2 nor 3 divides it
FEW = 2  # of three processes one has none


def data(n=N, dtype=torch.float64):
    """Samples of all classes, in random order, and their labels."""
    x, y = clusters(dtype=dtype)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[:n]
    return x[order], y[order]


def network(dtype=torch.float64, *layers):
    """Small, with the same weights everywhere."""
    torch.manual_seed(3)
    model = nn.Sequential(mlp(), nn.Tanh(), *layers, nn.Linear(6, 5))
    return model.to(dtype)


def uneven(x):
    """Batches of 1, 1, 2, 3, 1, ... samples; a generator, which can be read once."""
    position, sizes = 0, (1, 1, 2, 3)
    for i in range(len(x)):
        yield x[position : position + sizes[i % 4]]
        position += sizes[i % 4]
        if position >= len(x):
            return


class Stream(IterableDataset):
    """Samples one after the other."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(self.x)


def forms():
    """Name → data, the samples that these are, and options."""
    x, y = data()
    pairs = TensorDataset(x, y)
    chosen = torch.randperm(N, generator=torch.Generator().manual_seed(0))[:7]
    return {
        "dataset": (pairs, x, {}),
        "one by one": (pairs, x, {"batch_size": 1}),
        "one batch": (pairs, x, {"batch_size": 64}),
        "few samples": (TensorDataset(x[:FEW]), x[:FEW], {}),
        "one sample": (x[:1], x[:1], {}),
        "tensor": (x, x, {}),
        "loader": (DataLoader(pairs, 3), x, {}),
        "generator": (uneven(x), x, {}),
        "list of batches": ([(x[:6], y[:6]), (x[6:], y[6:])], x, {}),
        "dictionaries": ([{"input": x[:6]}, {"input": x[6:]}], x, {}),
        "iterable dataset": (Stream(x), x, {}),
        "two workers": (pairs, x, {"num_workers": 2}),
        "some of a dataset": (pairs, x[chosen], {"max_samples": 7}),
        "some of a tensor": (x, x[:7], {"max_samples": 7}),
        "some of a generator": (uneven(x), x[:7], {"max_samples": 7}),
    }


def estimates():
    """Name → Ω, by every option of the free functions."""
    found = {}
    for name, (samples, _, options) in forms().items():
        found[name] = estimate_importance(network(), samples, **{"batch_size": 4, **options})
    x, y = data()
    pairs, own = TensorDataset(x, y), {"batch_size": 4}
    found["float32"] = estimate_importance(network(torch.float32), x.float(), **own)
    for engine in ("vmap", "loop"):
        found[engine] = estimate_importance(network(), pairs, engine=engine, **own)
    for output in ("vector", "squares"):
        found[output] = estimate_importance(network(), pairs, output=output, **own)
    found["local"] = estimate_local_importance(network(), pairs, **own)
    for fisher in ("expected", "sampled", "empirical"):
        labelled = TensorDataset(x, y % 5)
        found[f"fisher {fisher}"] = estimate_fisher(network(), labelled, fisher=fisher, **own)
    found["own data"] = _of_own_data(x)
    found["buffers"] = _with_buffers(x)
    found["wrapped"] = _wrapped(x)
    return found


def _of_own_data(x):
    """Each process has every P-th block of two samples."""
    team = Team.of("split")
    blocks = torch.split(x, 2)[team.rank :: team.size]
    return estimate_importance(network(), list(blocks), distributed="own")


def _with_buffers(x):
    """BatchNorm statistics are those of the first process, and stay what they are in each."""
    model = network(torch.float64, nn.BatchNorm1d(6))
    rank = Team.of("split").rank
    model[2].running_mean += rank
    model[2].num_batches_tracked += rank
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    importance = estimate_importance(model, x, batch_size=4)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    return importance


def _wrapped(x):
    model = network()
    return estimate_importance(
        DistributedDataParallel(model) if Team.of("split").size > 1 else model, x, batch_size=4
    )


def alone():
    """Every process measures other samples by itself; its own Ω, and that of all."""
    x, _ = data()
    team = Team.of("split")
    mine = x[: 3 + team.rank]
    return (
        estimate_importance(network(), mine, distributed="off"),
        [estimate_importance(network(), x[: 3 + rank], distributed="off") for rank in range(3)],
    )


def of_plugins():
    """Name → Ω that plugins measure after an experience, before anything was trained."""
    benchmark = split(3, task_labels=True, dtype=torch.float64)

    def unlabelled(experience):
        return TensorDataset(torch.stack([s[0] for s in experience.dataset])[:7])

    plugins = {
        "train stream": MASPlugin(),
        "two streams": MASPlugin(streams=("train", "test")),
        "unlabelled": MASPlugin(streams=unlabelled),
        "some samples": MASPlugin(max_samples=5, batch_size=2),
        "vector": MASPlugin(output="vector"),
        "local": LocalMASPlugin(streams=("train", "test")),
        "fisher": EWCPlugin(fisher="expected"),
        "sampled fisher": EWCPlugin(fisher="sampled", batch_size=3),
        "empirical fisher": EWCPlugin(fisher="empirical"),
    }
    found = {}
    for name, plugin in plugins.items():
        torch.manual_seed(3)
        model = MultiHead(initial_out_features=2).double()
        strategy = naive(model, plugin)
        strategy.experience = benchmark.train_stream[0]
        found[name] = plugin.importance_of_task(strategy)
    both = [dataset(*data(n), task) for n, task in ((5, 0), (4, 1))]
    found["primed"] = MASPlugin().prime(network(), both[0])
    return found
