import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from run_counted import LOG

from benchmarks.runs.store import CellStore
from benchmarks.training.result import StreamResult

HERE = Path(__file__).parent


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Give the names of the cells that were run so far."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv(LOG, str(path))
    return lambda: sorted(line.rpartition(" ")[0] for line in path.read_text().splitlines())


@pytest.fixture
def store(tmp_path):
    return CellStore(tmp_path / "digits", {"a setting": 1}, StreamResult)


@pytest.fixture
def wait_for():
    """Wait until a condition holds: long, as a machine may be busy, but not for ever."""

    def wait(condition, seconds=900):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    return wait


@pytest.fixture
def driver(log, store):
    """Start commands that run slow cells in the store's folder."""
    started = []

    def start(executor="local", address=""):
        process = subprocess.Popen(
            [sys.executable, str(HERE / "run_counted.py"), executor, str(store.folder), address],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            # Shells let what they start in the background ignore it, and this would be inherited.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers too, should they have survived
        with process:  # closes its pipes, and waits
            pass
