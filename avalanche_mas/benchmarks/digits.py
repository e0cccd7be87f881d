"""Real handwriting without a download: the 1,797 digits that come with scikit-learn.

The images (E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine
Learning Repository, 1998; its test part) are 8 × 8 pixels in 17 grey levels. Samples here are
``(x, y, t)``: an image of shape ``(1, 8, 8)`` in [0, 1], a class label, a task label.

The same 500 images, drawn once and stratified by class, are the test set of every benchmark. An
image never changes sides: a permuted copy of a test image is seen in no training experience.
"""

import numpy as np
import torch
from avalanche.benchmarks import GenericCLScenario
from avalanche.benchmarks.scenarios.deprecated.generic_benchmark_creation import (
    create_generic_benchmark_from_tensor_lists,
)
from numpy.typing import NDArray
from torch import Tensor

N_CLASSES = 10
N_TEST = 500
SIDE = 8
_SPLIT_SEED = 0  # one fixed test set: `seed` changes the tasks, never what is held out


_Part = tuple[Tensor, Tensor]
"""Images (n, 1, 8, 8), float32 in [0, 1]; and the digits that were written, (n,), int64."""


def permuted_digits(
    n_experiences: int = 10, seed: int = 0, validation: float = 0.0
) -> GenericCLScenario:
    """Ten digits again and again, each time with the pixels in another fixed random order.

    Domain-incremental, for a model with a single head of ten classes: the task label is 0 in every
    experience. The first experience shows the digits as they were written; permutations are the
    same in all streams.

    :param n_experiences: how many pixel orders, the natural one included.
    :param seed: draws the permutations and the validation images.
    :param validation: the share of the training images, in [0, 1), that makes up a third stream
        ``valid``. With 0 there is no such stream.
    :return: a benchmark with the streams ``train`` (1,297 images in each experience, less those of
        ``valid``), ``test`` (500) and, if asked for, ``valid``.
    :raises ValueError: if an argument is out of its range.
    """
    if n_experiences < 1:
        raise ValueError(f"n_experiences is {n_experiences}: give at least 1")
    rng = np.random.default_rng(seed)
    orders = [np.arange(SIDE * SIDE)]
    orders += [rng.permutation(SIDE * SIDE) for _ in range(n_experiences - 1)]
    streams = {
        name: [(x.flatten(1)[:, order].view_as(x), y) for order in orders]
        for name, (x, y) in _load_parts(validation, seed).items()
    }
    return _as_benchmark(streams, task_labels=[0] * n_experiences)


def split_digits(
    n_experiences: int = 5, seed: int = 0, validation: float = 0.0, *, one_head: bool = False
) -> GenericCLScenario:
    """The ten digits dealt out to the experiences, the same number of classes to each.

    Task-incremental, for a multi-head model: experience *i* has task label *i*, and the labels of
    its classes count from zero. Or class-incremental, for a single head of ten classes: the task
    label is 0 in every experience, and the labels count on.

    :param n_experiences: a divisor of 10; with 5 each experience has two digits to tell apart.
    :param seed: draws the order of the classes and the validation images.
    :param validation: the share of the training images, in [0, 1), that makes up a third stream
        ``valid``. With 0 there is no such stream.
    :param one_head: whether it is class-incremental.
    :return: a benchmark with the streams ``train``, ``test`` and, if asked for, ``valid``.
    :raises ValueError: if an argument is out of its range.
    """
    if n_experiences < 1 or N_CLASSES % n_experiences:
        raise ValueError(f"n_experiences is {n_experiences}: give a divisor of {N_CLASSES}")
    class_order = np.random.default_rng(seed).permutation(N_CLASSES)
    tasks = torch.from_numpy(class_order).view(n_experiences, -1)
    each = tasks.shape[1]
    firsts = [i * each if one_head else 0 for i in range(n_experiences)]
    streams = {
        name: [_only_classes(part, *task) for task in zip(tasks, firsts, strict=True)]
        for name, part in _load_parts(validation, seed).items()
    }
    labels = [0] * n_experiences if one_head else list(range(n_experiences))
    return _as_benchmark(streams, task_labels=labels)


def _only_classes(part: _Part, classes: Tensor, first: int) -> _Part:
    """Keep the images of ``classes``, which are labelled in this order, from ``first`` on."""
    x, y = part
    same = y[:, None] == classes[None, :]  # (n, classes)
    kept = same.any(dim=1)
    return x[kept], first + same[kept].int().argmax(dim=1)


def _load_parts(validation: float, seed: int) -> dict[str, _Part]:
    """Read the digits and cut them, stratified by class, into the parts of the streams."""
    if not 0.0 <= validation < 1.0:
        raise ValueError(f"validation is {validation}: give a share of the training set in [0, 1)")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, written = load_digits(return_X_y=True)

    def cut(rows: NDArray[np.intp], size: int | float, state: int) -> list[NDArray[np.intp]]:
        halves: list[NDArray[np.intp]] = train_test_split(
            rows, test_size=size, stratify=written[rows], random_state=state
        )
        return halves

    train, test = cut(np.arange(len(written)), N_TEST, _SPLIT_SEED)
    rows = {"train": train, "test": test}
    if validation > 0.0:
        rows["train"], rows["valid"] = cut(train, validation, seed)
    x = torch.tensor(pixels / 16.0, dtype=torch.float32).view(-1, 1, SIDE, SIDE)
    y = torch.tensor(written, dtype=torch.int64)
    return {name: (x[chosen], y[chosen]) for name, chosen in rows.items()}


def _as_benchmark(streams: dict[str, list[_Part]], task_labels: list[int]) -> GenericCLScenario:
    """Hand the tensors to the one builder of Avalanche 0.6 that suits every method.

    ``nc_benchmark`` knows no third stream. ``benchmark_from_datasets``, the newer one, leaves
    ``origin_stream.benchmark`` empty and gives experiences no classes, so multi-head models fail.
    """
    other = {name: data for name, data in streams.items() if name not in ("train", "test")}
    return create_generic_benchmark_from_tensor_lists(
        streams["train"], streams["test"], other_streams_tensors=other, task_labels=task_labels
    )
