"""Any list of (training, test) datasets → a benchmark with a head for each task, or one for all."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from avalanche.benchmarks import CLScenario, DatasetExperience, EagerCLStream
from avalanche.benchmarks.utils import DataAttribute
from avalanche.benchmarks.utils.classification_dataset import (
    TaskAwareSupervisedClassificationDataset,
    _make_taskaware_classification_dataset,
)

from avalanche_mas.benchmarks.stratified import stratified

Transform = Callable[[Any], Any]
Transforms = Transform | Sequence[Transform | None] | None
"""A transform for all tasks, one for each task, or none."""

_Groups = dict[str, tuple[Transform | None, Transform | None]]
"""What is done to the inputs and to the labels, by the name of a group of transforms."""


class TaskExperience(DatasetExperience):  # type: ignore[misc]
    """One task in one stream.

    The attributes are those that Avalanche's models, plugins and metrics look for. Where each task
    has its own head, classes are numbered from 0 in each, so those of different tasks have equal
    numbers.

    :param dataset: the samples ``(x, y, t)``.
    :param task: the position in the stream.
    :param name: the name of the task.
    :param classes: the classes of all tasks; None for targets that are no classes.
    :param label: the task label.
    """

    def __init__(
        self, dataset: Any, task: int, name: str, classes: Sequence[list[int]] | None, label: int
    ) -> None:
        super().__init__(dataset=dataset, current_experience=task)
        self.task_name = name
        self.task_label = label
        self.task_labels = [label]
        if classes is None:
            return
        # A list: MultiHeadClassifier indexes with it, which fails with a set.
        self.classes_in_this_experience = list(classes[task])
        self.previous_classes = sorted(set().union(*classes[:task]))
        self.classes_seen_so_far = sorted(set().union(*classes[: task + 1]))
        self.future_classes = sorted(set().union(*classes[task + 1 :]))

    @property
    def benchmark(self) -> TaskSequence:
        """The benchmark that the experience belongs to."""
        found: TaskSequence = self.origin_stream.benchmark
        return found


class TaskSequence(CLScenario):  # type: ignore[misc]
    """A benchmark of named tasks, with the same tasks in all of its streams.

    :param streams: for each stream the datasets of its tasks.
    :param names: the names of the tasks.
    :param classes: the classes of each task, in ascending order; None if there are none.
    :param one_head: whether all tasks have the label 0.
    """

    def __init__(
        self,
        streams: dict[str, list[Any]],
        names: Sequence[str],
        classes: Sequence[list[int]] | None = None,
        one_head: bool = False,
    ) -> None:
        self.task_names = list(names)
        self.n_experiences = len(self.task_names)
        # Plugins and EvaluationPlugin(strict_checks=True) come from a stream to its benchmark.
        found = []
        for stream, datasets in streams.items():
            experiences = [
                TaskExperience(dataset, task, names[task], classes, 0 if one_head else task)
                for task, dataset in enumerate(datasets)
            ]
            found.append(EagerCLStream(stream, experiences, benchmark=self))
        super().__init__(found)


def task_sequence(
    tasks: Sequence[tuple[Any, Any]],
    names: Sequence[str] | None = None,
    validation: float = 0.0,
    seed: int = 0,
    train_transform: Transforms = None,
    eval_transform: Transforms = None,
    *,
    one_head: bool = False,
) -> TaskSequence:
    """Learns one dataset after the other, each as a task with its own classes.

    Experience *i* of every stream has task label *i*; its samples are ``(x, y, i)``. Tasks may have
    different numbers of classes: a head of Avalanche's ``MultiHeadClassifier`` grows to those of
    its task. Nothing is read from a dataset but its labels until samples are asked for.

    With ``one_head`` the stream is class-incremental: labels count on from task to task, for a
    single head of all classes, and the task label is 0 in every experience.

    Samples of the stream ``train`` have ``train_transform``, and ``eval_transform`` where a method
    measures on them (``dataset.eval()``), as importance is. Those of ``test`` and ``valid`` have
    ``eval_transform`` always. A transform that a dataset has of its own comes before both, so
    random ones belong here and not there.

    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> shapes = TensorDataset(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    >>> sounds = TensorDataset(torch.randn(4, 4), torch.tensor([0, 1, 0, 1]))
    >>> benchmark = task_sequence([(shapes, shapes), (sounds, sounds)], names=["shapes", "sounds"])
    >>> [experience.classes_in_this_experience for experience in benchmark.train_stream]
    [[0, 1, 2], [0, 1]]
    >>> benchmark = task_sequence([(shapes, shapes), (sounds, sounds)], one_head=True)
    >>> [experience.classes_in_this_experience for experience in benchmark.train_stream]
    [[0, 1, 2], [3, 4]]

    :param tasks: for each task a training and a test dataset with labels 0, 1, ... in ``targets``,
        as torchvision's ``ImageFolder`` has, or a ``TensorDataset``; also subsets of such and their
        concatenations.
    :param names: the names of the tasks; by default ``task 0``, ``task 1``, ...
    :param validation: the share of each training dataset, in [0, 1), that makes up a third stream
        ``valid``: so much of each class, but at least one sample of it stays for training. With 0
        there is no such stream.
    :param seed: draws the validation samples.
    :param train_transform: for samples to train on, one for all tasks or a list with one for each.
    :param eval_transform: for samples to test and measure on, likewise.
    :param one_head: whether the stream is class-incremental.
    :return: a benchmark with the streams ``train``, ``test`` and, if asked for, ``valid``.
    :raises TypeError: if a dataset has no integer labels.
    :raises ValueError: if there are no tasks, a dataset is empty, a test dataset has classes that
        its training dataset has not, its labels do not begin at 0, or an argument does not fit.
    """
    if not 0.0 <= validation < 1.0:
        raise ValueError(f"validation is {validation}: give a share of the training set in [0, 1)")
    names = names_of(tasks, names)
    train_transforms = for_each(train_transform, "train_transform", names)
    eval_transforms = for_each(eval_transform, "eval_transform", names)
    streams: dict[str, list[Any]] = {"train": [], "test": []}
    classes: list[list[int]] = []
    for task, (pair, name) in enumerate(zip(tasks, names, strict=True)):
        first = classes[-1][-1] + 1 if one_head and classes else 0
        count_on = partial(operator.add, first) if first else None
        groups: _Groups = {
            "train": (train_transforms[task], count_on),
            "eval": (eval_transforms[task], count_on),
        }
        train, test = (
            _as_task(dataset, 0 if one_head else task, f"the {kind} dataset of {name!r}", groups)
            for kind, dataset in zip(("training", "test"), pair, strict=True)
        )
        classes.append([first + label for label in _classes(pair, train, test, name)])
        if first:
            train, test = (
                _with_labels(dataset, [first + label for label in dataset.targets])
                for dataset in (train, test)
            )
        if validation:
            try:
                n = round(validation * len(train))
                held_out, kept = stratified(list(train.targets), n, seed)
            except ValueError as error:
                raise ValueError(
                    f"validation is {validation}, too much for {name!r}: {error}"
                ) from error
            streams.setdefault("valid", []).append(train.subset(held_out).eval())
            train = train.subset(kept)
        streams["train"].append(train.train())
        streams["test"].append(test.eval())
    return TaskSequence(streams, names, classes, one_head)


def names_of(tasks: Sequence[tuple[Any, Any]], names: Sequence[str] | None) -> list[str]:
    """The names of tasks.

    :param tasks: for each task a training and a test dataset.
    :param names: their names; None: ``task 0``, ``task 1``, ...
    :raises ValueError: if there are no tasks, or the names do not fit.
    """
    if not tasks:
        raise ValueError("tasks is empty: give at least one pair (training dataset, test dataset)")
    names = [f"task {task}" for task in range(len(tasks))] if names is None else list(names)
    if len(names) != len(tasks) or len(set(names)) != len(names):
        raise ValueError(f"names is {names}: give {len(tasks)} different names, one for each task")
    return names


def for_each(transforms: Transforms, argument: str, names: list[str]) -> list[Transform | None]:
    """Gives each task its transform.

    :param transforms: one for all, or one for each.
    :param argument: what the user calls them.
    :param names: the names of the tasks.
    :raises ValueError: if there is another number of them.
    """
    if not isinstance(transforms, Sequence):
        return [transforms] * len(names)
    if len(transforms) != len(names):
        raise ValueError(
            f"{argument} has {len(transforms)} entries: give one transform, or one for each of the "
            f"{len(names)} tasks"
        )
    return list(transforms)


def _as_task(
    dataset: Any, task: int, what: str, groups: _Groups
) -> TaskAwareSupervisedClassificationDataset:
    """Give the samples their task label, and two groups of transforms."""
    try:
        # Finds the labels of subsets and concatenations too. LwF needs this kind of dataset.
        found = _make_taskaware_classification_dataset(
            dataset, task_labels=task, transform_groups=groups, initial_transform_group="train"
        )
        labels = [operator.index(label) for label in found.targets]
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{what}, a {type(dataset).__name__}, has no integer labels: give it an attribute "
            f"`targets`, a list of integers from 0 ({error}). Targets of a regression are no "
            "classes: make its stream with regression_sequence."
        ) from error
    if not labels:
        raise ValueError(f"{what} is empty")
    if min(labels) < 0:
        raise ValueError(f"{what} has the label {min(labels)}: labels must be integers from 0")
    return _with_labels(found, labels)


def _with_labels(
    dataset: TaskAwareSupervisedClassificationDataset, labels: list[int]
) -> TaskAwareSupervisedClassificationDataset:
    """Say what the labels are; the samples' own are not changed."""
    return dataset.update_data_attribute("targets", DataAttribute(labels, "targets"))


def _classes(
    pair: tuple[Any, Any],
    train: TaskAwareSupervisedClassificationDataset,
    test: TaskAwareSupervisedClassificationDataset,
    name: str,
) -> list[int]:
    """List the classes of a task in ascending order."""
    ours, theirs = (getattr(dataset, "classes", None) for dataset in pair)
    if ours is not None and theirs is not None and list(ours) != list(theirs):
        raise ValueError(
            f"the training and the test dataset of {name!r} do not have the same classes, so equal "
            f"labels mean different things: {list(ours)} and {list(theirs)}"
        )
    learned = set(train.targets.uniques)
    if 0 not in learned:
        raise ValueError(
            f"the labels of {name!r} begin at {min(learned)}: number the classes of each task from "
            "0, as its head has a unit for every label up to the highest. split_by_class does so "
            "where one dataset is divided into tasks"
        )
    unknown = set(test.targets.uniques) - learned
    if unknown:
        raise ValueError(
            f"the test dataset of {name!r} has the labels {sorted(unknown)}, which its training "
            "dataset has not"
        )
    return sorted(learned)
