"""Experience → the samples on which its importance is measured."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, NamedTuple

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.templates.problem_type import SupervisedProblem
from torch import Tensor, nn

from avalanche_mas.importance.batches import (
    Forward,
    batch_size_of,
    call_model,
    iterate_batches,
    labels_of,
    map_leaves,
    model_input,
    take,
    to_device,
)
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.parameters import unwrap
from avalanche_mas.importance.shadow import preserve_state
from avalanche_mas.importance.sharing import Share
from avalanche_mas.plugins.base.features import is_multi_task
from avalanche_mas.training.joint import JointTraining


class StreamSource:
    """Finds, for an experience, the datasets of the wanted streams and reads batches from them.

    :param streams: a stream's name, several names, or a function experience → dataset.
    :param num_workers: loader processes.
    :param max_samples: upper limit for the samples of each dataset.
    :raises TypeError: if ``streams`` is none of these.
    :raises ValueError: if it names no stream, or one stream twice.
    """

    def __init__(
        self,
        streams: str | Sequence[str] | Callable[[Any], Any],
        num_workers: int = 0,
        max_samples: int | None = None,
    ) -> None:
        if not callable(streams):
            names = [streams] if isinstance(streams, str) else list(streams)
            if not all(isinstance(name, str) for name in names):
                raise TypeError(
                    f"streams must be a stream name, several names or a function experience -> "
                    f"dataset, got {streams!r}"
                )
            if not names or len(set(names)) != len(names):
                raise ValueError(f"streams must name at least one stream, each once: {streams!r}")
            streams = names
        self.streams: list[str] | Callable[[Any], Any] = streams
        self.num_workers, self.max_samples = num_workers, max_samples

    def check(self, experience: Any) -> None:
        """Looks the streams up, so that a wrong name fails before training.

        :raises ValueError: if a stream, or its experience of this index, does not exist, or if
            there are no samples in any of them.
        """
        if not callable(self.streams) and not any(map(len, self.datasets(experience))):
            raise ValueError(
                f"there are no samples in the experience of {' and '.join(self.streams)} that "
                "importance is to be measured on"
            )

    def datasets(self, experience: Any) -> list[Any]:
        """The datasets for an experience, with evaluation transforms where they have any."""
        # a part of an online stream stands for the experience that it is a part of
        experience = getattr(experience, "origin_experience", experience)
        if experience is None:
            raise ValueError(
                "the stream has no task boundaries: its parts belong to no experience, so there is "
                "no end of a task at which importance could be measured"
            )
        if callable(self.streams):
            found = [self.streams(experience)]
        else:
            found = [_dataset(experience, name) for name in self.streams]
        return [in_eval_mode(dataset) for dataset in found]


class StreamBatches:
    """Batches of an experience's samples, of which several processes can read a part each.

    A multi-task model gets batches of one task at a time, with the task label as an int: the head
    of each sample's own task answers, without the padding that mixed batches have. Samples without
    a task label (unlabelled data) belong to the experience's task.

    Where the user says how a batch goes through the model, x is the whole batch as it was read.

    :param source: where the samples are found.
    :param strategy: trains a model on the experience they belong to.
    :param batch_size: samples per batch; None for the strategy's, see :func:`measuring_batch_size`.
    :param forward: how a batch goes through the model; None: as Avalanche does it.
    """

    def __init__(
        self,
        source: StreamSource,
        strategy: Any,
        batch_size: int | None = None,
        forward: Forward | None = None,
    ) -> None:
        self._source, self._experience = source, strategy.experience
        self._model = strategy.model
        self._multi_task = is_multi_task(strategy.model)
        self.batch_size = measuring_batch_size(batch_size, strategy)
        self._forward = forward
        self._labels = forward.labels if isinstance(forward, OwnForward) else _labels

    def forward(self, model: nn.Module, batch: StreamBatch) -> Any:
        """The :data:`.Forward` of such a batch."""
        if self._forward is not None:
            return self._forward(model, batch.x)
        return call_model(model, batch.x) if batch.task is None else model(batch.x, batch.task)

    def first(self, samples: int) -> list[StreamBatch]:
        """The first samples of each stream, read without a trace.

        Of a function's data nothing is known before they are asked for.
        """
        source = self._source
        found: list[StreamBatch] = []
        for dataset in [] if callable(source.streams) else source.datasets(self._experience):
            with preserve_state(dataset) as interrupts:
                batches = interrupts.between(islice(iterate_batches(dataset, samples), 1))
                found += islice(self._samples(dataset, batches), 1)
        return found

    def check(self, measured: Callable[[Forward], Forward] = lambda forward: forward) -> None:
        """Lets samples of each stream through the model, before anything is trained.

        It leaves no trace.

        :param measured: from how a batch goes through the model to what is measured.
        :raises TypeError: if they do not go through it, or what comes out cannot be measured.
        """
        model = unwrap(self._model)
        device = next(model.parameters()).device
        for batch in self.first(2):
            with preserve_state(None, model=model):
                try:
                    network = Network(model, measured(self.forward))
                    network(network.mark_shared(to_device(batch, device)))
                except Exception as error:  # whatever a model raises
                    raise TypeError(
                        "importance cannot be measured on the experience's samples "
                        f"({type(error).__name__}: {error}). Pass forward=lambda model, batch: "
                        "... to say how a batch, with all that a sample has, goes through the "
                        "model."
                    ) from error

    def __iter__(self) -> Iterator[StreamBatch]:
        return self.own_batches(Share())

    def own_batches(self, share: Share) -> Iterator[StreamBatch]:
        """The batches of the samples that belong to one process."""
        source = self._source
        read = [
            (data, share.batches(data, self.batch_size, source.num_workers, source.max_samples))
            for data in source.datasets(self._experience)
        ]
        return (samples for data, batches in read for samples in self._samples(data, batches))

    def _samples(self, dataset: Any, batches: Iterator[Any]) -> Iterator[StreamBatch]:
        for batch in batches:
            if self._forward is not None:
                yield StreamBatch(batch, self._labels(dataset, batch), None)
                continue
            x, y = model_input(batch), _labels(dataset, batch)
            if not self._multi_task:
                yield StreamBatch(x, y, None)
            elif _has_tasks(dataset):
                yield from _by_task(x, y, batch[-1])
            else:
                yield StreamBatch(x, y, _task_label(self._experience))


class StreamBatch(NamedTuple):
    """A batch of samples that go through the model together."""

    x: Any
    y: Any  # labels, or None: most methods never read them
    task: int | None  # for a multi-task model


class OwnForward:
    """As a strategy whose class has a ``forward`` of its own lets a batch through a model.

    So what is measured is what training sees: several inputs, the output of another library's
    model, one of several outputs. It runs on a copy of the strategy, as in evaluation, and in the
    model's own precision where the strategy's ``forward`` has autocast.

    :param strategy: any; it is not changed.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """The output."""
        twin = self._holding(batch)
        twin.model = model
        with _own_precision(model):
            return twin.forward()

    def labels(self, dataset: Any, batch: Any) -> Any:
        """What the strategy takes for the labels of a batch; None where it finds none."""
        if isinstance(batch, Tensor) or (isinstance(batch, (tuple, list)) and len(batch) < 2):
            return None
        with suppress(Exception):  # whatever a strategy raises
            return self._holding(batch).mb_y
        return None

    def _holding(self, batch: Any) -> Any:
        twin = copy.copy(self._strategy)
        twin.is_training = False
        twin.mbatch = map_leaves(lambda leaf: leaf, batch)  # which may be changed
        if not isinstance(batch, Mapping):  # unlabelled samples lack fields that Avalanche asks for
            fields = [batch] if isinstance(batch, Tensor) else list(twin.mbatch)
            absent = torch.zeros(batch_size_of(batch), dtype=torch.long)
            twin.mbatch = fields + [absent] * (3 - len(fields))
        twin._unpack_minibatch()
        return twin


@contextmanager
def _own_precision(model: nn.Module) -> Iterator[None]:
    """Inside, the model runs as out here, whatever autocast it is called in."""
    device = next(model.parameters()).device.type
    outside, forward, before = torch.is_autocast_enabled(device), model.forward, dict(vars(model))

    def as_outside(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, enabled=outside):
            return forward(*args, **kwargs)

    vars(model)["forward"] = as_outside
    try:
        yield
    finally:
        del vars(model)["forward"]
        if "forward" in before:
            vars(model)["forward"] = before["forward"]


def own_forward(strategy: Any) -> OwnForward | None:
    """How a strategy lets a batch through a model.

    :return: None: as Avalanche does it. A multi-task model answers for one task at a time, without
        the padding of unequal heads that training's mixed batches have.
    """
    plain = type(strategy).forward in (SupervisedProblem.forward, JointTraining.forward)
    return None if plain or is_multi_task(strategy.model) else OwnForward(strategy)


def measuring_batch_size(wanted: int | None, strategy: Any) -> int:
    """Samples per batch where nothing is trained: as wanted, or ``eval_mb_size``, but at least 32.

    Avalanche's own default of 1 would be slow for nothing.
    """
    return wanted or max(32, strategy.eval_mb_size)


def in_eval_mode(data: Any) -> Any:
    """An Avalanche dataset with its evaluation transforms; anything else as it is."""
    return data.eval() if isinstance(data, AvalancheDataset) else data


def _has_tasks(dataset: Any) -> bool:
    """Whether the last field of a sample is its task label."""
    return hasattr(dataset, "targets_task_labels")


def _labels(dataset: Any, batch: Any) -> Any:
    own = isinstance(batch, (list, tuple)) and _has_tasks(dataset)
    return labels_of(batch[:-1] if own else batch)


def _by_task(x: Any, y: Any, tasks: Tensor) -> Iterator[StreamBatch]:
    size = batch_size_of(x)
    for task in torch.unique(tasks).tolist():
        chosen = torch.nonzero(tasks == task).flatten()
        yield StreamBatch(take(x, chosen, size), take(y, chosen, size), task)


def _task_label(experience: Any) -> int:
    label: int | None = getattr(experience, "task_label", None)
    if label is None:
        raise ValueError(
            "the model needs task labels, but neither the data to measure nor the experience has "
            "one: return a dataset with task labels from the streams function"
        )
    return label


def _dataset(experience: Any, stream: str) -> Any:
    own = getattr(experience, "_origin_stream", None)
    if stream == (own.name if own is not None else "train"):
        return experience.dataset
    benchmark = getattr(own, "benchmark", None)
    if benchmark is None:
        raise ValueError(
            f"cannot find stream {stream!r}: the experience does not know its benchmark "
            "(Avalanche's benchmark_from_datasets leaves it out). Pass streams=lambda experience: "
            f"benchmark.{stream}_stream[experience.current_experience].dataset instead."
        )
    streams = benchmark.streams
    if stream not in streams:
        raise ValueError(
            f"the benchmark has no stream {stream!r}; it has {', '.join(sorted(streams))}"
        )
    index = experience.current_experience
    for i, other in enumerate(streams[stream]):
        if i == index:
            return other.dataset
    raise ValueError(f"stream {stream!r} has no experience {index}, it ends before that")
