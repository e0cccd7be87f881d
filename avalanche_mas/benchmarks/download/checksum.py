"""Is a file the one that was published?"""

from __future__ import annotations

import hashlib
from pathlib import Path

from avalanche_mas.benchmarks.datasets import OfficialFile
from avalanche_mas.benchmarks.download.progress import Report, silent

_CHUNK = 1 << 20


def what_is_wrong(path: Path, file: OfficialFile, report: Report = silent) -> str | None:
    """Compare a file with the published checksum; SHA-256 counts where there are two.

    :param path: the file.
    :param file: what it should be.
    :param report: is told how many bytes are read.
    :return: what is wrong, as the rest of a sentence that begins with the path; None if all is
        well, or if no checksum was published.
    """
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    if expected is None:
        return None
    found = hashlib.new(kind, usedforsecurity=False)
    total, done = path.stat().st_size, 0
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            found.update(chunk)
            done += len(chunk)
            report(done, total)
    if found.hexdigest() == expected.lower():
        return None
    return f"has the {kind} {found.hexdigest()} instead of {expected}"
