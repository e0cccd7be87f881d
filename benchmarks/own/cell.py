"""The cells of a comparison of one's own, and what is needed to run them."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from avalanche.benchmarks import CLScenario
from avalanche.training.determinism.rng_manager import RNGManager
from torch import Tensor, nn
from torch.optim import Optimizer

from avalanche_mas.evaluation.accuracy_matrix import Matrix
from avalanche_mas.plugins.registry import Method

from ..runs.cell import training_name
from ..training.result import StreamResult
from ..training.stream import train_and_measure
from .held_out import hold_out

_LOOKED_AT = 8  # samples of each experience that a benchmark is known by


@dataclass(frozen=True)
class OwnCell:
    """Everything that a run depends on; what the user has written, by a fingerprint."""

    method: str
    lam: float | None  # None: the method has none
    seed: int  # of the benchmark, if it is a function, the weights and the order of the samples
    validation: float  # share of the training samples to score on; 0: score on the stream test
    epochs: int
    batch_size: int
    device: str
    fingerprint: str

    @property
    def label(self) -> str:
        """The row of a table that the run belongs to."""
        return self.method

    @property
    def name(self) -> str:
        """The name of its file: readable, and different for any two different cells."""
        return training_name("compare", self)


@dataclass(frozen=True)
class Setup:
    """What the user has given; it goes to every process that runs cells.

    :param benchmark: what to learn, or a function that makes it, perhaps from a ``seed``.
    :param make_model: makes the untrained model.
    :param make_optimizer: makes the optimizer of its parameters.
    :param methods: by name.
    :param criterion: the loss.
    :param metric: makes what is measured, given ``stream``.
    :param classifier: dotted name of the model's last module, for methods that must know it.
    """

    benchmark: CLScenario | Callable[..., CLScenario]
    make_model: Callable[[], nn.Module]
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    methods: Mapping[str, Method]
    criterion: nn.Module
    metric: Callable[..., Matrix]
    classifier: str | None

    def run_cell(self, cell: OwnCell) -> StreamResult:
        """Train and measure one cell."""
        benchmark = self.make_benchmark(cell.seed)
        if cell.validation:
            benchmark = hold_out(benchmark, cell.validation, cell.seed)
        with same_random_numbers():
            return train_and_measure(
                benchmark,
                "valid" if cell.validation else "test",
                self.make_model,
                self.make_optimizer,
                self.methods[cell.method],
                cell.lam,
                cell,
                cell.seed,
                classifier=self.classifier,
                device=cell.device,
                criterion=self.criterion,
                metric=self.metric,
            )

    def make_benchmark(self, seed: int) -> CLScenario:
        """The benchmark; a function of one is given the seed if it takes a ``seed``.

        :raises TypeError: if it is none.
        :raises ValueError: if nothing can be forgotten there, or not all is tested.
        """
        found = self.benchmark
        if not hasattr(found, "streams") and callable(found):
            with same_random_numbers():
                RNGManager.set_random_seeds(seed)
                takes_seed = "seed" in inspect.signature(found).parameters
                found = found(seed=seed) if takes_seed else found()
        streams = getattr(found, "streams", None)
        if streams is None:
            raise TypeError(
                f"the benchmark is a {type(found).__name__}: give a benchmark of Avalanche, such "
                "as task_sequence makes, or a function that makes one"
            )
        sizes = {name: len(streams.get(name, ())) for name in ("train", "test")}
        if sizes["train"] < 2 or len(set(sizes.values())) > 1:
            raise ValueError(
                f"the benchmark has {sizes['train']} experiences in the stream 'train' and "
                f"{sizes['test']} in 'test': there must be two or more, and as many to test"
            )
        return found

    def fingerprint(self, seed: int) -> str:
        """Eight characters that differ when results would.

        Looked at are the tensors and the settings of the model and the loss, the source of their
        classes, the optimizer's settings, the metric, the methods, and of the benchmark the labels
        and a few samples of every experience. Not seen is what those call in turn.

        :param seed: of the benchmark and the weights that are looked at.
        :raises TypeError: if the model or the optimizer is none.
        """
        with same_random_numbers():
            RNGManager.set_random_seeds(seed)
            model = _instance(self.make_model(), nn.Module, "make_model")
            optimizer = _instance(
                self.make_optimizer(model.parameters()), Optimizer, "make_optimizer"
            )
            groups = [{**group, "params": None} for group in optimizer.param_groups]
            told = hashlib.sha256()
            for thing in (
                *_inside(model),
                *_inside(self.criterion),
                type(optimizer),
                groups,
                self.metric,
                self.classifier,
                list(self.methods.items()),
                *_samples(self.make_benchmark(seed)),
            ):
                told.update(_as_bytes(thing))
        return told.hexdigest()[:8]


def _instance(thing: Any, kind: type[Any], function: str) -> Any:
    if not isinstance(thing, kind):
        raise TypeError(
            f"{function} gives a {type(thing).__name__}, not a {kind.__module__}.{kind.__name__}"
        )
    return thing


def _inside(network: nn.Module) -> Iterator[Any]:
    """What a network, or a loss, is made of: its modules, their plain settings, all tensors."""
    for name, module in network.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, tuple))}
        yield name, plain, _source(type(module))
    yield from network.state_dict().values()


def _source(kind: type[nn.Module]) -> str:
    if kind.__module__.startswith("torch."):
        return kind.__qualname__
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # written at a prompt
        return kind.__qualname__


def _samples(benchmark: CLScenario) -> Iterator[Any]:
    """Some of what a benchmark holds."""
    for name, stream in benchmark.streams.items():
        for experience in stream:
            data = experience.dataset
            yield name, len(data), list(getattr(data, "targets", ()))
            for index in np.linspace(0, len(data) - 1, min(len(data), _LOOKED_AT), dtype=int):
                yield from data[int(index)]


def _as_bytes(thing: Any) -> bytes:
    """Something that is the same in every process."""
    if isinstance(thing, Tensor):
        return thing.detach().cpu().contiguous().numpy().tobytes()
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing)).encode()


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Give back the state of all generators of random numbers, which belong to the caller."""
    before = RNGManager.__getstate__()
    try:
        yield
    finally:
        RNGManager.__setstate__(before)
