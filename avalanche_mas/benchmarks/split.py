"""One dataset divided by its classes → datasets whose classes are numbered from 0."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_classification_dataset
from torch.utils.data import Subset


class ClassSubset(Subset[Any]):
    """The samples of some classes, whose labels are their positions among these.

    :param dataset: the samples ``(x, y, ...)``.
    :param labels: the labels of all of them.
    :param classes: those to keep.
    """

    def __init__(self, dataset: Any, labels: Sequence[int], classes: Sequence[int]) -> None:
        number = {label: at for at, label in enumerate(classes)}
        super().__init__(dataset, [k for k, label in enumerate(labels) if label in number])
        self.classes = list(classes)
        """The labels as they were, in the order of the new ones."""
        self.targets = [number[labels[k]] for k in self.indices]

    def __getitem__(self, index: int) -> Any:
        """The sample, with its new label."""
        x, _, *rest = self.dataset[self.indices[index]]
        return x, self.targets[index], *rest

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Several samples."""
        return [self[index] for index in indices]


def split_by_class(dataset: Any, n: int, classes: Sequence[int] | None = None) -> list[ClassSubset]:
    """Divides a dataset into ``n`` tasks of equally many classes, in the order of their labels.

    In each of them labels are numbered from 0, as a head for each task needs them. Where tasks
    are to share a head, Avalanche's ``nc_benchmark`` keeps the labels as they are.

    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> data = TensorDataset(torch.randn(8, 4), torch.tensor([0, 1, 2, 3] * 2))
    >>> parts = split_by_class(data, 2)
    >>> [(part.classes, part.targets) for part in parts]
    [([0, 1], [0, 1, 0, 1]), ([2, 3], [0, 1, 0, 1])]

    ``task_sequence(list(zip(split_by_class(train, n), split_by_class(test, n))))`` makes a stream,
    and refuses training and test datasets that were divided otherwise.

    :param dataset: with integer labels in ``targets``, a ``TensorDataset``, or a subset or
        concatenation of such.
    :param n: how many tasks.
    :param classes: the labels to divide, in this order; by default all that occur, in ascending
        order. Samples of other classes are left out.
    :return: the datasets.
    :raises TypeError: if the dataset has no integer labels.
    :raises ValueError: if the classes cannot be divided equally, or do not occur.
    """
    try:
        found = _make_taskaware_classification_dataset(dataset)
        labels = [operator.index(label) for label in found.targets]
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(
            f"the dataset, a {type(dataset).__name__}, has no integer labels: give it an attribute "
            f"`targets`, a list of integers ({error})"
        ) from error
    classes = sorted(set(labels)) if classes is None else list(classes)
    if missing := [label for label in classes if label not in set(labels)]:
        raise ValueError(f"the dataset has no samples of the classes {missing}")
    if n < 1 or len(classes) % n or len(set(classes)) != len(classes) or not classes:
        raise ValueError(
            f"{len(classes)} classes cannot be divided into {n} equal tasks: {classes}"
        )
    size = len(classes) // n
    return [
        ClassSubset(dataset, labels, classes[k : k + size]) for k in range(0, len(classes), size)
    ]
