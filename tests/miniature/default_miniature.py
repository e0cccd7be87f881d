"""One miniature for all tests of drawings, made as by default."""

import functools
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from avalanche_mas.miniature.objects import miniature


class Default(NamedTuple):
    """The miniature that users get, with archives."""

    root: Path
    seconds: float  # of the processor, to make it
    folder: tempfile.TemporaryDirectory  # which goes away with the process


@functools.cache
def make_default():
    """Draw it when it is first asked for. Tests must not change it."""
    folder = tempfile.TemporaryDirectory()
    start = time.process_time()
    root = miniature(Path(folder.name) / "root", archives=True, verbose=False)
    return Default(root, time.process_time() - start, folder)
