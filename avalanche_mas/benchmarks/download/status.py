"""What of a dataset is there: its files, and how many samples they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from avalanche_mas.benchmarks.download.checksum import what_is_wrong

if TYPE_CHECKING:
    from avalanche_mas.benchmarks.datasets import ImageDataset, OfficialFile


@dataclass(frozen=True)
class Status:
    """The state of one dataset.

    :param samples: how many there are of each split that can be read.
    :param n_classes: how many classes there are, 0 if no split can be read.
    :param missing: the official files whose contents are not there.
    :param problem: why it cannot be read, or "".
    """

    dataset: type[ImageDataset]
    samples: dict[str, int]
    n_classes: int
    missing: tuple[OfficialFile, ...]
    problem: str

    @property
    def state(self) -> str:
        """One of ``complete``, ``other size``, ``missing``, ``incomplete``, ``damaged``."""
        if self.missing:
            all_missing = len(self.missing) == len(self.dataset.files)
            return "missing" if all_missing else "incomplete"
        if self.problem:
            return "damaged"
        official = self.samples == self.dataset.sizes and self.n_classes == self.dataset.n_classes
        return "complete" if official else "other size"


def status(dataset: type[ImageDataset], root: Path) -> Status:
    """Look what is there of a dataset. Lists and labels are read, images are not.

    :param dataset: the dataset.
    :param root: the folder of all datasets.
    """
    missing = tuple(file for file in dataset.files if not (root / file.gives).exists())
    samples: dict[str, int] = {}
    n_classes, problem = 0, ""
    for split in () if missing else dataset.sizes:
        try:
            found = dataset(root, split)
        except (OSError, ValueError) as error:
            problem = problem or str(error)
        else:
            samples[split], n_classes = len(found), len(found.classes)
    return Status(dataset, samples, n_classes, missing, problem)


def is_miniature(root: Path) -> bool:
    """Tell whether a folder holds drawn datasets, which have checksums and sizes of their own."""
    from avalanche_mas.miniature.objects.writing import MARKER

    return (root / MARKER).exists()


def problems_of(dataset: type[ImageDataset], root: Path, verbose: bool = False) -> Iterator[str]:
    """Check the archives of a dataset against their checksums, count samples, open every image.

    Of a miniature only the images are opened.

    :param dataset: the dataset.
    :param root: the folder of all datasets.
    :param verbose: show progress bars.
    :return: a sentence for each problem.
    """
    drawn = is_miniature(root)
    for file in () if drawn else dataset.files:
        path = root / file.folder / file.name
        wrong = what_is_wrong(path, file, verbose) if path.is_file() else None
        if wrong:
            yield f"{path} {wrong}: delete it and download it again"
    found = status(dataset, root)
    if found.state not in ("complete", "other size"):
        what = found.problem or f"{', '.join(file.gives for file in found.missing)} missing"
        yield f"{dataset.title}: {what}"
        return
    for split, expected in dataset.sizes.items():
        if not drawn and found.samples[split] != expected:
            has = f"{found.samples[split]:,} {split} samples instead of {expected:,}"
            yield f"{dataset.title} has {has}"
        images, title = dataset(root, split), f"{dataset.key}: {split} images"
        for sample in tqdm(range(len(images)), title, leave=False, disable=not verbose):
            try:
                images[sample]
            except (OSError, ValueError) as error:
                yield str(error)
