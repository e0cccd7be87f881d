"""Is a file the one that was published?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from avalanche_mas.benchmarks.download.progress import reading

if TYPE_CHECKING:
    from avalanche_mas.benchmarks.datasets import OfficialFile

_CHUNK = 1 << 20


def what_is_wrong(path: Path, file: OfficialFile, verbose: bool = False) -> str | None:
    """Compare a file with the published size and checksum; SHA-256 counts where there are two.

    :param path: the file.
    :param file: what it should be.
    :param verbose: show a progress bar.
    :return: what is wrong, as the rest of a sentence that begins with the path; None if all is
        well, or if neither was published.
    """
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"has {size:,} bytes instead of {file.size:,}"
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    if expected is None:
        return None
    found = hashlib.new(kind, usedforsecurity=False)
    title = f"checking {file.name}"
    with path.open("rb") as content, reading(content, title, verbose, total=size) as source:
        while chunk := source.read(_CHUNK):  # hashlib.file_digest needs Python 3.11
            found.update(chunk)
    if found.hexdigest() == expected.lower():
        return None
    return f"has the {kind} {found.hexdigest()} instead of {expected}"
