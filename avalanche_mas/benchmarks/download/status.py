"""What of a dataset is there: its files, and how many samples they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from avalanche_mas.benchmarks.datasets import DatasetInfo, ImageDataset, OfficialFile
from avalanche_mas.benchmarks.download.checksum import what_is_wrong
from avalanche_mas.benchmarks.download.progress import Report, silent
from avalanche_mas.miniature.objects.writing import MARKER


@dataclass(frozen=True)
class Status:
    """The state of one dataset.

    :param samples: what there is in each split that can be read.
    :param n_classes: how many classes there are, 0 if no split can be read.
    :param missing: the official files whose contents are not there.
    :param problem: why it cannot be read, or "".
    """

    info: DatasetInfo
    samples: dict[str, int]
    n_classes: int
    missing: tuple[OfficialFile, ...]
    problem: str

    @property
    def state(self) -> str:
        """One of ``complete``, ``other size``, ``missing``, ``incomplete``, ``damaged``."""
        if self.missing:
            return "missing" if len(self.missing) == len(self.info.files) else "incomplete"
        if self.problem:
            return "damaged"
        official = self.samples == dict(self.info.sizes) and self.n_classes == self.info.n_classes
        return "complete" if official else "other size"


def status(info: DatasetInfo, root: Path) -> Status:
    """Look what is there of a dataset. Lists and labels are read, images are not.

    :param info: the dataset.
    :param root: the folder of all datasets.
    """
    missing = tuple(file for file in info.files if not (root / file.gives).exists())
    samples: dict[str, int] = {}
    n_classes, problem = 0, ""
    for split in () if missing else info.sizes:
        try:
            dataset = info.loader(root, split)
        except (OSError, ValueError) as error:
            problem = problem or str(error)
        else:
            samples[split], n_classes = len(dataset), len(dataset.classes)
    return Status(info, samples, n_classes, missing, problem)


def is_miniature(root: Path) -> bool:
    """Tell whether a folder holds drawn datasets, which have checksums and sizes of their own."""
    return (root / MARKER).exists()


def wrong_files(info: DatasetInfo, root: Path, report: Report = silent) -> Iterator[str]:
    """Compare the official files that are there with their checksums.

    :param info: the dataset.
    :param root: the folder of all datasets.
    :param report: is told how many bytes are read of a file.
    :return: a sentence for each file that is not the official one.
    """
    for file in info.files:
        path = root / file.folder / file.name
        wrong = what_is_wrong(path, file, report) if path.is_file() else None
        if wrong:
            yield f"{path} {wrong}: delete it and download it again"


def unreadable(dataset: ImageDataset, report: Report = silent) -> Iterator[str]:
    """Open every image of a split.

    :param dataset: the split.
    :param report: is told how many images are open.
    :return: a sentence for each image that cannot be read.
    """
    for sample in range(len(dataset)):
        try:
            dataset[sample]
        except (OSError, ValueError) as error:
            yield str(error)
        report(sample + 1, len(dataset))
