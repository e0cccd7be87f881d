"""The archives that the official files come in, the same byte for byte whenever they are made."""

import gzip
import shutil
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from avalanche_mas.benchmarks.datasets import DATASETS


def write_archives(root: Path, folder: Path) -> None:
    """Pack the datasets under ``root`` into files with the official names.

    :param root: a folder with all eight datasets.
    :param folder: where the archives go, and copies of the files that are published as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in DATASETS.values():
        for file in dataset.files:
            if file.is_archive:
                _pack(folder / file.name, root / file.folder, root / file.gives)
            else:
                shutil.copyfile(root / file.gives, folder / file.name)


def _pack(archive: Path, base: Path, content: Path) -> None:
    """Write a tar file, or a gzipped one, with names counted from ``base`` and without dates."""
    with ExitStack() as stack:
        file: Any = stack.enter_context(archive.open("wb"))
        if archive.suffix != ".tar":
            # Images are compressed already: harder work would not make them smaller.
            packed = gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0)
            file = stack.enter_context(packed)
        tar = stack.enter_context(tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT))
        for path in [content, *sorted(content.rglob("*"))]:
            entry = tarfile.TarInfo(path.relative_to(base).as_posix())
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                entry.size = path.stat().st_size
                with path.open("rb") as data:
                    tar.addfile(entry, data)
