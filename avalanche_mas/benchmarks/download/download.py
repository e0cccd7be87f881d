"""Get what is missing of a dataset: download, check, unpack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rich.console import Console

from avalanche_mas.benchmarks.download.checksum import what_is_wrong
from avalanche_mas.benchmarks.download.fetch import DownloadError, fetch
from avalanche_mas.benchmarks.download.unpack import ArchiveError, unpack

if TYPE_CHECKING:
    from avalanche_mas.benchmarks.datasets import ImageDataset, OfficialFile


def download(dataset: type[ImageDataset], root: Path, console: Console) -> Iterator[str]:
    """Get every file of a dataset that is not there.

    :param dataset: the dataset.
    :param root: the folder of all datasets.
    :param console: what is done is printed on it.
    :return: what could not be had, and how to get it; the other files are got nevertheless.
    """
    for file in dataset.files:
        if (root / file.gives).exists():
            console.print(f"{dataset.key}: {file.gives} is there")
            continue
        try:
            _get(file, root, console)
            console.print(f"{dataset.key}: {file.gives} is ready")
        except (DownloadError, ArchiveError, OSError) as error:
            yield f"{error}\n  To get it yourself: {file.where_to_get(str(root))}"


def _get(file: OfficialFile, root: Path, console: Console) -> None:
    """Download a file, unless it is there, and unpack it if it is an archive."""
    path, verbose = root / file.folder / file.name, console.is_terminal
    if path.exists() and what_is_wrong(path, file, verbose):
        aside = path.with_name(f"{file.name}.wrong")
        path.replace(aside)
        console.print(f"{path} is not the official file: kept as {aside.name}")
    if not path.exists():
        fetch(file, path.parent, verbose)
    if file.is_archive:
        inside = PurePosixPath(file.gives).relative_to(file.folder)
        unpack(path, path.parent, str(inside), verbose)
