"""The images of a cell: the official ones, or a miniature that is drawn when first needed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from avalanche_mas.benchmarks.datasets import DATASETS
from avalanche_mas.benchmarks.object_benchmark import Preprocessing, object_recognition
from avalanche_mas.benchmarks.sequence import TaskSequence, Transform, task_sequence
from avalanche_mas.miniature.objects import miniature

from ..runs.cache import cache_folder
from ..training.features import frozen_features
from .cell import Drawn, ObjectCell, ObjectTraining


def data_root(data: str | None, drawn: Drawn | None) -> Path:
    """The folder with one folder for each dataset; a miniature is drawn if it is not there yet.

    :param data: the folder of the official data, if these are used.
    :param drawn: which miniature, if not.
    """
    if data is not None:
        return Path(data)
    assert drawn is not None
    numbers = drawn.images_per_class, drawn.size, drawn.seed
    return miniature(
        cache_folder("miniature-" + "-".join(map(str, numbers))),
        images_per_class=drawn.images_per_class,
        size=drawn.size,
        seed=drawn.seed,
        verbose=sys.stderr.isatty(),
    )


def check_data(
    data: str | None, drawn: Drawn | None, tasks: Iterable[str], training: ObjectTraining
) -> None:
    """Make the miniature, or find out before training what is wrong with the official data.

    All lists, labels and annotations are read, and all images looked for. To open all of them
    would take long: ``python -m avalanche_mas.benchmarks.download verify`` does it.

    :raises FileNotFoundError: if the data, or a file of them, are missing.
    :raises ValueError: if a file is not what it should be.
    """
    root = data_root(data, drawn)
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} does not exist: give the folder that holds one folder for each dataset. "
            f"`python -m avalanche_mas.benchmarks.download download {root}` makes it."
        )
    object_recognition(root, list(dict.fromkeys(tasks)), transform=_preprocessing(training))


def load(cell: ObjectCell, *, one_head: bool = False) -> TaskSequence:
    """The benchmark of a cell.

    Where every image is always the same square, all are read once and kept in memory; for the
    pretrained network what its frozen part makes of them.

    :param cell: whose.
    :param one_head: whether it is class-incremental.
    """
    root, transform = data_root(cell.data, cell.drawn), _preprocessing(cell.training)
    if cell.training.augmented:
        return object_recognition(
            root, cell.tasks, transform, cell.validation, cell.seed, one_head=one_head
        )
    read = partial(_tensors, root, transform, cell.training.model == "pretrained")
    return task_sequence(
        [(read(task, "train"), read(task, "test")) for task in cell.tasks],
        names=cell.tasks,
        validation=cell.validation,
        seed=cell.seed,
        one_head=one_head,
    )


def _preprocessing(training: ObjectTraining) -> Preprocessing:
    return Preprocessing(training.resize, training.crop)


def _tensors(
    root: Path, preprocessing: Preprocessing, pretrained: bool, task: str, split: str
) -> TensorDataset:
    """Read all images of a split as they are evaluated, without chance."""
    evaluated: Transform = preprocessing(task)[1]
    dataset = DATASETS[task](root, split, evaluated)
    images = torch.stack([dataset[i][0] for i in range(len(dataset))])
    return TensorDataset(
        frozen_features(images) if pretrained else images, torch.tensor(dataset.targets)
    )
