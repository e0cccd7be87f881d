"""Time that a penalty adds to a training step, in the loop of Avalanche's own strategy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from avalanche.benchmarks import tensors_benchmark
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins import EWCPlugin as AvalancheEWC
from avalanche.training.plugins import MASPlugin as AvalancheMAS
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from avalanche_mas import MASPlugin

from .clock import interleave
from .networks import OUTPUTS, make_case
from .rows import Row, Section, SpeedSettings

BATCH = 8
NONE, COPY = "no plugin", "copy of the parameters"
STREAMS = 5
"""Passes over the parameters that any penalty needs: read θ, θ*, Ω and the gradient, write it."""
COPY_STREAMS = 2
LONGER = 5
"""So many times as long as others lasts one timing at least."""

MakePlugin = Callable[[], object]

PLUGINS: dict[str, tuple[MakePlugin | None, int]] = {
    NONE: (None, 1),
    "MASPlugin, proximal step": (partial(MASPlugin, step="proximal"), 1),
    "MASPlugin, gradient": (partial(MASPlugin, step="gradient"), 1),
    "Avalanche MASPlugin": (AvalancheMAS, 1),
    "Avalanche EWCPlugin, 1 experience": (partial(AvalancheEWC, 1.0), 1),
    "Avalanche EWCPlugin, 3 experiences": (partial(AvalancheEWC, 1.0), 3),
}
"""What is added to the strategy, and how many experiences it has learned before."""

SMALL_PAGES, HUGE_PAGES = "as torch allocates", "with transparent huge pages"


def sections(settings: SpeedSettings, networks: Sequence[str]) -> list[Section]:
    """As torch allocates memory by default, and with transparent huge pages."""
    pages = {SMALL_PAGES: {"THP_MEM_ALLOC_ENABLE": "0"}}
    if settings.device == "cpu":
        pages[HUGE_PAGES] = {"THP_MEM_ALLOC_ENABLE": "1"}
    return [
        Section("penalty", name, measure, ((settings,),), variables)
        for name, variables in pages.items()
    ]


def measure(settings: SpeedSettings) -> Iterator[Row]:
    """Seconds of a training step with each plugin."""
    torch.set_num_threads(settings.threads)
    case = make_case(network_for(settings.quick), settings.device, settings.quick, BATCH)
    calls = {
        way: one_step(case.model, case.x, make, experiences)
        for way, (make, experiences) in PLUGINS.items()
    }
    calls[COPY] = copy_parameters(case.model)
    # twice as often and for longer: it is a small difference of large figures that counts
    for number, way, seconds in interleave(calls, 2 * settings.rounds, LONGER * settings.shortest):
        yield Row(way, number, seconds)


def network_for(quick: bool) -> str:
    """The network that is trained."""
    return "mlp" if quick else "alexnet"


def one_step(
    model: nn.Module, x: Tensor, make_plugin: MakePlugin | None, experiences: int
) -> Callable[[], None]:
    """One training step of a strategy that has learned before with a plugin.

    :param model: stays as it is, a copy is trained.
    :param x: the batch of every step.
    :param make_plugin: None for none.
    :param experiences: how many it has learned: their importance is the plugin's own.
    :return: ``Naive.training_epoch`` over one batch, all callbacks included.
    """
    model, y = copy.deepcopy(model), torch.arange(len(x), device=x.device) % OUTPUTS
    strategy = Naive(
        model=model,
        # so slow that the network stays what it is
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9),
        train_mb_size=len(x),
        plugins=[make_plugin()] if make_plugin else [],
        evaluator=EvaluationPlugin(loggers=[]),
        device=x.device,
    )
    data = [(x.cpu(), y.cpu())] * experiences
    stream = tensors_benchmark(data, data[:1], task_labels=[0] * experiences).train_stream
    for experience in stream:
        strategy.train(experience)
    model.train()
    task = torch.zeros(len(x), dtype=torch.long, device=x.device)
    strategy.dataloader = [[x, y, task]]

    def step() -> None:
        strategy.training_epoch()

    return step


def copy_parameters(model: nn.Module) -> Callable[[], None]:
    """Reads and writes as many bytes as there are in the parameters: two streams of memory."""
    sources = [parameter.detach().clone() for parameter in model.parameters()]
    targets = [torch.empty_like(source) for source in sources]

    def call() -> None:
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)

    return call
