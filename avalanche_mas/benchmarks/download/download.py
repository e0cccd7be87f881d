"""Get what is missing of a dataset: download, check, unpack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rich.console import Console

from avalanche_mas.benchmarks.datasets import DatasetInfo, OfficialFile
from avalanche_mas.benchmarks.download.checksum import what_is_wrong
from avalanche_mas.benchmarks.download.fetch import DownloadError, fetch
from avalanche_mas.benchmarks.download.progress import bar
from avalanche_mas.benchmarks.download.unpack import ArchiveError, unpack


def download(info: DatasetInfo, root: Path, console: Console) -> Iterator[str]:
    """Get every file of a dataset that is not there.

    :param info: the dataset.
    :param root: the folder of all datasets.
    :param console: where progress is shown.
    :return: what could not be had, and how to get it; the other files are got nevertheless.
    """
    for file in info.files:
        if (root / file.gives).exists():
            console.print(f"{info.key}: {file.gives} is there")
            continue
        try:
            _get(file, root, console)
            console.print(f"{info.key}: {file.gives} is ready")
        except (DownloadError, ArchiveError, OSError) as error:
            yield f"{error}\n  To get it by hand: {file.where_to_get(str(root))}"


def _get(file: OfficialFile, root: Path, console: Console) -> None:
    """Download a file, unless it is there, and unpack it if it is an archive."""
    folder = root / file.folder
    path = folder / file.name
    if path.exists() and not _is_right(path, file, console):
        aside = path.with_name(f"{file.name}.wrong")
        path.replace(aside)
        console.print(f"{path} is not the official file: kept as {aside.name}")
    if not path.exists():
        with bar(console, file.name) as report:
            fetch(file, folder, report)
    if file.is_archive:
        inside = PurePosixPath(file.gives).relative_to(file.folder)
        with bar(console, f"unpacking {file.name}") as report:
            unpack(path, folder, str(inside), report)


def _is_right(path: Path, file: OfficialFile, console: Console) -> bool:
    with bar(console, f"checking {file.name}") as report:
        return what_is_wrong(path, file, report) is None
