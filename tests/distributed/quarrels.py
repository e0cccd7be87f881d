"""What goes wrong in one process, or between them, ends as an error in all; then they go on."""

from functools import partial

import torch
from omega import N, data, network
from tiny_avalanche import mlp, split
from torch.utils.data import DataLoader, Subset, TensorDataset
from training import strategy_of

from avalanche_mas import Importance, MASPlugin, estimate_importance
from avalanche_mas.importance.team import Team


def broken(x, rank):
    """Batches; the last process cannot read its third one."""
    for i, batch in enumerate(torch.split(x, 2)):
        if i == 2 and rank == Team.of("split").size - 1:
            raise OSError("cannot read image 5")
        yield batch


def quarrels():
    """Name → the kind and text of the error in this process."""
    x, y = data()
    team = Team.of("split")
    rank = team.rank
    pairs = TensorDataset(x, y)
    shuffled = DataLoader(
        pairs, 3, shuffle=True, generator=torch.Generator().manual_seed(rank + 10)
    )
    other = network()
    if rank:
        with torch.no_grad():
            other[2].weight.add_(1e-9)
    more = network(torch.float64, torch.nn.Linear(6, 6)) if rank else network()
    nan = torch.where(torch.arange(N)[:, None] == 1, torch.nan, x)
    cases = {
        "unreadable": (network(), broken(x, rank)),
        "wrong form": (network(), (b for b in (x[:6], "a" if rank else x[6:]))),
        "own part": (network(), Subset(pairs, range(rank, 10, team.size))),
        "other samples": (network(), x + rank),
        "shuffled": (network(), shuffled),
        "longer": (network(), (x[k : k + 1] for k in range(N - (rank == 0)))),
        "other weights": (other, x),
        "other layers": (more, x),
        "not finite": (network(), nan),
        "no samples": (network(), x[:0]),
    }

    def train_from_other_importances():
        model = mlp()
        initial = Importance({"0.weight": torch.full((16, 8), 1.0 + rank)}, samples=1)
        strategy = strategy_of(model, [MASPlugin(initial=initial)])
        strategy.train(split().train_stream[0])

    actions = {
        name: partial(estimate_importance, model, samples)
        for name, (model, samples) in cases.items()
    }

    def train_with(*plugins):
        strategy_of(mlp(), list(plugins)).train(split().train_stream[0])

    actions |= {
        "other importances": train_from_other_importances,
        "other strengths": lambda: train_with(MASPlugin(1.0 + rank)),
        "other samples to measure": lambda: train_with(MASPlugin(max_samples=5 + rank)),
        "a plugin on one": lambda: train_with(*[MASPlugin()] * (rank == 0)),
    }
    said = {}
    for name, act in actions.items():
        try:
            act()
        except Exception as error:
            said[name] = type(error).__name__, str(error)
        else:
            said[name] = None
    return said
