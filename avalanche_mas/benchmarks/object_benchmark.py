"""The paper's object recognition experiments: one dataset after another, each with its own head."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchvision import transforms

from avalanche_mas.benchmarks.datasets import DATASETS
from avalanche_mas.benchmarks.sequence import TaskSequence, Transform, task_sequence
from avalanche_mas.benchmarks.transforms import from_image

EIGHT_TASKS = ("flowers", "scenes", "birds", "cars", "aircraft", "actions", "letters", "svhn")
"""The long sequence, in the paper's order (Fig. 5)."""

TWO_TASK_SEQUENCES = {
    "birds-scenes": ("birds", "scenes"),
    "scenes-birds": ("scenes", "birds"),
    "flowers-birds": ("flowers", "birds"),
    "flowers-scenes": ("flowers", "scenes"),
}
"""The four short sequences (Tables 1 and 2), by name."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input; the defaults are those of the paper's authors.

    To train, an image is scaled until its shorter side has ``resize`` pixels, a square of ``crop``
    pixels is cut out anywhere, and every second one is mirrored. To test and to measure importance,
    the square is cut out of the middle. Colours are normalised as ImageNet's.

    The authors mirror the images of all tasks, letters and digits too.

    :param resize: the length of the shorter side, in pixels.
    :param crop: the side of the network's input, in pixels, at most ``resize``.
    :param flip: whether training images are mirrored: for all datasets, for none, or for those
        whose short names are given.
    :raises ValueError: if ``crop`` does not fit in ``resize``, or ``flip`` names no known dataset.
    """

    resize: int = 256
    crop: int = 224
    flip: bool | Collection[str] = True

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"crop is {self.crop}: give 1 to {self.resize} (resize) pixels")
        if not isinstance(self.flip, bool):
            _check_known("flip", self.flip)

    def __call__(self, dataset: str) -> tuple[Transform, Transform]:
        """Make the transforms of a dataset: to train on, and to test and measure on.

        :param dataset: its short name.
        """
        flipped = self.flip if isinstance(self.flip, bool) else dataset in self.flip
        train = [transforms.RandomCrop(self.crop)]
        train += [transforms.RandomHorizontalFlip()] if flipped else []
        middle = transforms.CenterCrop(self.crop)
        return from_image(self.resize, *train), from_image(self.resize, middle)


def object_recognition(
    root: str | Path,
    tasks: Sequence[str] = EIGHT_TASKS,
    transform: Callable[[str], tuple[Transform, Transform]] | None = None,
    validation: float = 0.0,
    seed: int = 0,
    *,
    one_head: bool = False,
) -> TaskSequence:
    """The paper's sequence of eight object recognition tasks, or any other sequence of them.

    All lists and labels are read and all images looked for at once, so that what is missing is
    known before training; images are read when they are needed.

    :param root: the folder that holds one folder for each dataset, in its official layout.
    :param tasks: short names, keys of :data:`~avalanche_mas.benchmarks.datasets.DATASETS`, such as
        :data:`EIGHT_TASKS` or ``TWO_TASK_SEQUENCES["flowers-birds"]``.
    :param transform: a function from a dataset's short name to its two transforms, for training and
        for evaluation; by default ``Preprocessing()``, as in the authors' code.
    :param validation: the share of each training set, in [0, 1), that makes up a third stream
        ``valid``. The authors have none: they choose between models by their test accuracy.
    :param seed: draws the validation samples.
    :param one_head: whether labels count on over the tasks, for a single head, as in
        :func:`~avalanche_mas.benchmarks.sequence.task_sequence`. In the paper each task has its
        own.
    :return: a benchmark with the streams ``train``, ``test`` and, if asked for, ``valid``.
    :raises FileNotFoundError: if a dataset, or a file of it, is missing.
    :raises ValueError: if a task is unknown, or a file is not what it should be.
    """
    _check_known("tasks", tasks)
    if not tasks:
        raise ValueError(f"tasks is empty: give a list of {', '.join(DATASETS)}")
    transform = Preprocessing() if transform is None else transform
    train_transforms, eval_transforms = zip(*(transform(task) for task in tasks), strict=True)
    datasets = [DATASETS[task] for task in tasks]
    return task_sequence(
        [(dataset(root, "train"), dataset(root, "test")) for dataset in datasets],
        names=tasks,
        validation=validation,
        seed=seed,
        train_transform=train_transforms,
        eval_transform=eval_transforms,
        one_head=one_head,
    )


def _check_known(argument: str, names: Collection[str]) -> None:
    unknown = [name for name in names if name not in DATASETS]
    if isinstance(names, str) or unknown:
        raise ValueError(f"{argument} is {names!r}: give a list of {', '.join(DATASETS)}")
