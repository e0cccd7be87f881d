"""One run of ``torchrun`` for each number of processes; all tests here ask for its results."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
FOLDERS = [str(HERE), str(HERE.parent / "plugins"), str(HERE.parents[1])]
sys.path[:0] = FOLDERS[:2]

# processes → where one of them fails in the end
FAILURES = {2: "training", 3: "importance"}


class Run:
    """A run of several processes that has ended.

    :param size: how many.
    :param folder: an empty folder for what they write.
    """

    def __init__(self, size, folder):
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
        worker = [str(HERE / "worker.py"), str(folder), FAILURES[size]]
        self.ended = subprocess.run(
            [sys.executable, "-W", "ignore", *torchrun, *worker],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*FOLDERS, *sys.path])},
            capture_output=True,
            text=True,
            timeout=240,
        )
        now = time.time()
        failing = folder / "failing"
        assert failing.exists(), self.ended.stderr[-5000:]
        self.size, self.seconds_to_fail = size, now - float(failing.read_text())
        self.ranks = [torch.load(folder / f"{rank}.pt") for rank in range(size)]


_RUNS = {}


@pytest.fixture(scope="session", params=FAILURES, ids="{} processes".format)
def run(request, tmp_path_factory):
    """What several processes found."""
    size = request.param
    if size not in _RUNS:
        _RUNS[size] = Run(size, tmp_path_factory.mktemp(f"processes_{size}"))
    return _RUNS[size]
