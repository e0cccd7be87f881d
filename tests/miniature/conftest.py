"""One miniature for all tests of drawings, made as by default."""

import time
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

from avalanche_mas.miniature.objects import miniature


class Default(NamedTuple):
    """The miniature that users get, with archives. Tests must not change it."""

    root: Path
    seconds: float  # of the processor, to make it


@pytest.fixture(scope="session")
def default(folder_of_all_workers):
    """Drawn when it is first asked for, once for all workers of xdist."""
    folder = folder_of_all_workers
    root, taken = folder / "default miniature", folder / "default miniature.seconds"
    with FileLock(f"{root}.lock"):
        if not taken.exists():
            start = time.process_time()
            miniature(root, archives=True, verbose=False)
            taken.write_text(str(time.process_time() - start))
    return Default(root, float(taken.read_text()))
