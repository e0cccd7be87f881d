"""What a sample is: data of any form → batches of samples; labels are never read."""

from __future__ import annotations

import copy
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from enum import Enum
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

Forward = Callable[[nn.Module, Any], Any]
"""``forward(model, batch) -> output``: how a batch goes through the model."""

Split = Callable[[Any], Iterable[Any]]
"""``split(batch) -> batches of one sample each``: for batches whose samples are not the entries of
their tensors' first dimension, such as lists of images or graphs."""

_LABELS = {"label", "labels", "target", "targets", "y"}
_LABELS |= {"label_ids", "next_sentence_label", "start_positions", "end_positions"}  # transformers'


class OneSample(NamedTuple):
    """A batch that is one sample, whatever the shapes of its tensors: what :data:`Split` gives."""

    batch: Any


class Shared(NamedTuple):
    """A part of a batch that belongs to all samples, though it is as long as the batch."""

    part: Any


class Some(NamedTuple):
    """Some samples of a batch. It is cut once it is known what belongs to each sample."""

    batch: Any
    samples: range


def iterate_batches(
    data: Any, batch_size: int, num_workers: int = 0, max_samples: int | None = None
) -> Iterator[Any]:
    """Batches of ``data``, whatever it is.

    :param data: a ``Dataset`` (batched here, in order, with its own ``collate_fn`` if it has one),
        a ``DataLoader``, a tensor of samples, or any iterable of batches.
    :param batch_size: samples per batch for a ``Dataset`` or a tensor.
    :param num_workers: loader processes for a ``Dataset``.
    :param max_samples: use at most so many samples: for a map-style ``Dataset`` a random subset
        in random order, always the same (streams are often sorted by class, so the first N would
        be one class), for anything else the first ones.
    :raises TypeError: if ``data`` is none of these.
    """
    if isinstance(data, Tensor) and data.layout is not torch.strided:
        batches: Iterable[Any] = [data]
    elif isinstance(data, Tensor):
        batches = torch.split(data, batch_size)
    elif _is_dataset(data):
        batches = _loader(data, batch_size, num_workers, max_samples)
    elif isinstance(data, Iterable):
        batches = data
    else:
        raise TypeError(
            f"data must be a Dataset, a DataLoader, a tensor of samples or an iterable of batches, "
            f"got {type(data).__name__}"
        )
    left = max_samples
    for batch in batches:
        if left is None:
            yield batch
            continue
        size = batch_size_of(batch)
        yield batch if size <= left else Some(batch, range(left))
        left -= size
        if left <= 0:  # before the iterator is asked for a batch that is not needed
            return


def count_batches(data: Any, batch_size: int, max_samples: int | None) -> int | None:
    """How many batches :func:`iterate_batches` will give, where that can be known."""
    if not hasattr(data, "__len__"):
        return None
    if not (isinstance(data, Tensor) or _is_dataset(data)):
        return len(data)
    samples = len(data) if max_samples is None else min(len(data), max_samples)
    return -(-samples // batch_size)


def _is_dataset(data: Any) -> bool:
    """Avalanche's datasets are not PyTorch's, but have a ``collate_fn`` as well."""
    return isinstance(data, Dataset) or (
        hasattr(data, "__getitem__") and hasattr(data, "collate_fn")
    )


def is_map_style(data: Any) -> bool:
    """Whether ``data`` is a dataset whose samples can be read in any order."""
    return _is_dataset(data) and not isinstance(data, IterableDataset)


def some_of(samples: int, max_samples: int | None) -> Sequence[int]:
    """Which samples of a map-style dataset are used: all in order, or the fixed random subset."""
    if max_samples is None or max_samples >= samples:
        return range(samples)
    generator = torch.Generator().manual_seed(0)
    chosen: list[int] = torch.randperm(samples, generator=generator)[:max_samples].tolist()
    return chosen


def _loader(data: Any, batch_size: int, num_workers: int, max_samples: int | None) -> Iterable[Any]:
    collate = getattr(data, "collate_fn", None)
    if max_samples is not None and is_map_style(data) and max_samples < len(data):
        data = Subset(data, some_of(len(data), max_samples))
    return DataLoader(data, batch_size, num_workers=num_workers, collate_fn=collate)


def model_input(batch: Any) -> Any:
    """What of a batch goes into the model when the user gave no ``forward``.

    :param batch: ``x``, ``(x, ...)`` or a mapping; x may be a mapping, too.
    :return: ``x``, or a dict without the labels.
    :raises TypeError: for anything else, such as a list of samples that are mappings.
    """
    if isinstance(batch, Some):
        return Some(model_input(batch.batch), batch.samples)
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        return {name: value for name, value in batch.items() if name not in _LABELS}
    if isinstance(batch, (tuple, list)) and batch:
        if isinstance(batch[0], Tensor):
            return batch[0]
        mappings = [issubclass(type(part), Mapping) for part in batch]  # labels are not read
        if mappings[0] and sum(mappings) == 1:
            return model_input(batch[0])
    kind = type(batch).__name__
    if isinstance(batch, (tuple, list)):
        kind += f" of {type(batch[0]).__name__}" if batch else " of nothing"
    raise TypeError(
        f"a batch must be a tensor x, a tuple (x, ...) or a dict of tensors, got a {kind}. "
        "Pass forward=lambda model, batch: ... to say how it goes through the model."
    )


def call_model(model: nn.Module, inputs: Any) -> Any:
    """``model(x)``, or ``model(**inputs)`` for a mapping: the default :data:`Forward`."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def batch_size_of(batch: Any) -> int:
    """Number of samples: the length of the batch's first tensor.

    :raises TypeError: if the batch holds no tensor with a first dimension, or something whose
        samples lie in another way.
    """
    if isinstance(batch, OneSample):
        return 1
    if isinstance(batch, Some):
        return len(batch.samples)
    for leaf in leaves_of(batch):
        if isinstance(leaf, PackedSequence) or (isinstance(leaf, Tensor) and leaf.is_nested):
            kind = "nested tensor" if isinstance(leaf, Tensor) else type(leaf).__name__
            raise TypeError(
                f"a batch holds a {kind}, whose samples have no dimension of their own: pass "
                "split=lambda batch: ..., which gives batches of one sample each, or give padded "
                "tensors and let forward= pack them."
            )
        if isinstance(leaf, Tensor) and leaf.layout is not torch.strided:
            raise TypeError(
                f"a batch holds a tensor of {leaf.layout}, which cannot be cut into samples: "
                "pass split=lambda batch: ..., which gives batches of one sample each, or give "
                "dense tensors and let forward= convert them."
            )
        if isinstance(leaf, Tensor) and leaf.dim() > 0:
            return leaf.shape[0]
    raise TypeError(
        f"found no tensor of samples in a batch of type {type(batch).__name__}: give tensors in "
        "tuples, lists and dicts, or pass split=lambda batch: ..., which gives batches of one "
        "sample each."
    )


def take(batch: Any, samples: slice | Tensor, size: int) -> Any:
    """Some samples of a batch; what is not one entry per sample is passed on as it is.

    :param batch: tensors in any nesting of tuples, lists and mappings.
    :param samples: which ones, as an index along the first dimension.
    :param size: number of samples in ``batch``.
    """
    if isinstance(batch, OneSample):
        return batch

    def cut(leaf: Any) -> Any:
        if entries_of(leaf) != size:
            return leaf
        if isinstance(leaf, Tensor) or isinstance(samples, slice):
            return leaf[samples]
        if isinstance(leaf, numpy.ndarray):
            return leaf[samples.cpu().numpy()]
        return type(leaf)(leaf[k] for k in samples.tolist())

    return map_leaves(cut, batch)


def taken(batch: Any) -> Any:
    """A batch, of :class:`Some` samples only these: cut by nothing but the lengths of its parts."""
    if not isinstance(batch, Some):
        return batch
    whole, samples = batch
    return take(whole, slice(samples.start, samples.stop, samples.step), batch_size_of(whole))


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on ``device``, fit for autograd.

    :raises ValueError: for tensors on the meta device.
    """

    def move(leaf: Any) -> Any:
        if isinstance(leaf, (OneSample, Shared, Some, PackedSequence)):
            return type(leaf)(*(map_leaves(move, part) for part in leaf))
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_meta and device.type != "meta":
            raise ValueError(
                f"a batch holds a tensor of shape {tuple(leaf.shape)} on the meta device, which "
                "has a shape but no values: give data that are on a CPU or a GPU"
            )
        moved = leaf.detach().to(device, non_blocking=True)
        return moved.clone() if moved.is_inference() else moved  # made in torch.inference_mode

    return map_leaves(move, batch)


def is_per_sample(leaf: Any, size: int) -> bool:
    """Whether a tensor in a batch has an entry for each of its ``size`` samples."""
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[0] == size


def entries_of(leaf: Any) -> int | None:
    """How long a part of a batch is: a tensor, an array, or a list of plain values; else None."""
    if isinstance(leaf, (Tensor, numpy.ndarray)):
        return leaf.shape[0] if leaf.ndim else None
    return len(leaf) if type(leaf) in (list, tuple) else None


def map_leaves(function: Callable[[Any], Any], batch: Any) -> Any:
    """``function`` of everything in a batch that is no tuple, list or mapping, in a like batch.

    A list or a tuple of plain values, such as lengths or names, is one thing. Mappings of any kind
    keep their type, such as the batches of a tokenizer.
    """
    kind = type(batch)  # not isinstance, which reads attributes of what may be a label
    if kind is Tensor:
        return function(batch)
    if kind in (tuple, list):
        if _is_plain(batch):
            return function(batch)
        return kind(map_leaves(function, value) for value in batch)
    if kind is dict:
        return {key: map_leaves(function, value) for key, value in batch.items()}
    if kind in (OneSample, Shared, Some, PackedSequence):
        return function(batch)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return kind(*(map_leaves(function, value) for value in batch))
    if issubclass(kind, MutableMapping):
        twin = copy.copy(batch)
        for key, value in batch.items():
            twin[key] = map_leaves(function, value)
        return twin
    if issubclass(kind, Mapping):
        return {key: map_leaves(function, value) for key, value in batch.items()}
    return function(batch)


_PLAIN = {bool, int, float, complex, str, bytes, type(None)}


def _is_plain(values: Sequence[Any]) -> bool:
    return bool(values) and all(
        type(value) in _PLAIN or issubclass(type(value), numpy.generic) for value in values
    )


def leaves_of(batch: Any) -> list[Any]:
    """Everything in a batch that :func:`map_leaves` would give to its function, in order."""
    leaves: list[Any] = []
    map_leaves(leaves.append, batch)
    return leaves


def structure_of(batch: Any) -> Hashable:
    """The names and places of the leaves: where they are equal, leaves of one number are alike."""
    kind = type(batch)  # not isinstance, as above
    if issubclass(kind, Mapping):
        return tuple((key, structure_of(value)) for key, value in batch.items())
    if not issubclass(kind, (tuple, list)) or kind in (OneSample, Shared, Some, PackedSequence):
        return None
    return None if _is_plain(batch) else tuple(map(structure_of, batch))


def shapes_of(batch: Any) -> tuple[object, ...]:
    """The shape of a sample, how it lies in memory, and whatever else goes into the model with it.

    What is equal for two batches they have in common.
    """
    return structure_of(batch), *map(_shape_of, leaves_of(batch))


def shared_by_all(batch: Any) -> tuple[int, ...]:
    """The numbers of the leaves that are marked as shared."""
    return tuple(i for i, leaf in enumerate(leaves_of(batch)) if isinstance(leaf, Shared))


FLAGS = (bool, str, Enum, type(None))
"""What may say how a batch goes through the model, but nothing of a sample."""


def flags_of(batch: Any) -> tuple[object, ...]:
    """What of a batch may say how it goes through the model: flags, names, and what is missing."""
    return tuple(leaf for leaf in leaves_of(batch) if isinstance(leaf, FLAGS))


def _shape_of(leaf: Any) -> object:
    if isinstance(leaf, Tensor):
        whole = leaf.layout is not torch.strided or leaf.is_contiguous()
        return leaf.shape[1:], leaf.dtype, whole
    if isinstance(leaf, Shared):
        return Shared, _shape_of(leaf.part), entries_of(leaf.part)
    if type(leaf) is list:
        return tuple(leaf)
    return leaf if isinstance(leaf, Hashable) else object()


def unmarked(batch: Any) -> Any:
    """What goes into the model: the batch without :class:`OneSample` and :class:`Shared`."""
    if isinstance(batch, OneSample):
        return batch.batch
    return map_leaves(lambda leaf: leaf.part if isinstance(leaf, Shared) else leaf, batch)


def labels_of(batch: Any) -> Any:
    """The labels of a batch ``(x, y, ...)`` or of a dict; None if it has none."""
    if isinstance(batch, Mapping):
        labels = [batch[name] for name in batch.keys() - model_input(batch).keys()]
        return labels[0] if len(labels) == 1 else None
    return batch[1] if isinstance(batch, (list, tuple)) and len(batch) > 1 else None
