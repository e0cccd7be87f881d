"""Any list of (training, test) datasets with numbers to predict → a benchmark without classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TransformGroups
from avalanche.benchmarks.utils.data_attribute import ConstantSequence

from avalanche_mas.benchmarks.sequence import TaskSequence, Transforms, for_each, names_of


def regression_sequence(
    tasks: Sequence[tuple[Any, Any]],
    names: Sequence[str] | None = None,
    train_transform: Transforms = None,
    eval_transform: Transforms = None,
) -> TaskSequence:
    """Learns one dataset after the other, whose targets are tensors of any shape.

    These are those of a regression, or dense ones, such as a depth or a class for each pixel. As in
    :func:`.task_sequence`, experience *i* has task label *i* and its samples are ``(x, y, i)``. No
    experience names classes, so methods that distil class probabilities refuse it. Errors are
    measured by :class:`~avalanche_mas.evaluation.ErrorMatrix`.

    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> x = torch.linspace(-1, 1, 8)[:, None]
    >>> tasks = [TensorDataset(x, x**2), TensorDataset(x, x**3)]
    >>> benchmark = regression_sequence([(task, task) for task in tasks], names=["square", "cube"])
    >>> [experience.task_name for experience in benchmark.train_stream]
    ['square', 'cube']

    :param tasks: for each task a training and a test dataset of samples ``(x, y)``.
    :param names: the names of the tasks; by default ``task 0``, ``task 1``, ...
    :param train_transform: of x, for samples to train on; one for all tasks, or one for each.
    :param eval_transform: of x, for samples to test and measure on, likewise.
    :return: a benchmark with the streams ``train`` and ``test``.
    :raises ValueError: if there are no tasks, a dataset is empty, or an argument does not fit.
    """
    names = names_of(tasks, names)
    train_transforms = for_each(train_transform, "train_transform", names)
    eval_transforms = for_each(eval_transform, "eval_transform", names)
    streams: dict[str, list[Any]] = {"train": [], "test": []}
    for task, (pair, name) in enumerate(zip(tasks, names, strict=True)):
        transforms = {"train": train_transforms[task], "eval": eval_transforms[task]}
        for stream, dataset in zip(streams, pair, strict=True):
            if not len(dataset):
                raise ValueError(f"the {stream} dataset of {name!r} is empty")
            labels = ConstantSequence(task, len(dataset))
            found = AvalancheDataset(
                [dataset],
                data_attributes=[DataAttribute(labels, "targets_task_labels", True)],
                transform_groups=TransformGroups(transforms),
            )
            streams[stream].append(found.train() if stream == "train" else found.eval())
    return TaskSequence(streams, names)
