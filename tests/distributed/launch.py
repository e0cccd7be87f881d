"""Starts processes that may take as long as a busy machine lets them, but not hang."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
FOLDERS = [str(HERE), str(HERE.parent / "plugins"), str(HERE.parents[1])]
WINDOW = 60  # seconds in which processes that do not hang use a twentieth of a processor, at least
SPENT = 1200  # seconds of processor time, ten times what they need: they run in a circle


def run_until_stalled(command, folder, window=WINDOW, spent=SPENT):
    """Exit status and stderr of processes, which may take as long as a busy machine lets them.

    Only where they no longer compute, or compute without end, are they stopped, and each says where
    it stands. That something wakes up now and then is not computing.
    """
    with open(folder / "stderr", "w+", encoding="utf-8") as stderr:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*FOLDERS, *sys.path])}
        launcher = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr, text=True
        )
        computed, since = 0.0, time.monotonic()
        while launcher.poll() is None:
            time.sleep(0.2)
            processes = _family(launcher.pid)
            now = sum(map(_computed, processes))
            if abs(now - computed) > window / 20:  # less: one of them has ended
                computed, since = now, time.monotonic()
            if time.monotonic() - since > window or now > spent:
                used = ", ".join(f"{_computed(process):.2f} s" for process in processes)
                for process in processes[1:]:
                    _signal(process, signal.SIGUSR1)  # faulthandler's, see worker.py
                time.sleep(2)
                for process in processes:
                    _signal(process, signal.SIGKILL)
                launcher.wait()
                stderr.seek(0)
                said = stderr.read()[-20000:]
                pytest.fail(f"the processes hang, having computed {used}:\n{said}", pytrace=False)
        stderr.seek(0)
        return launcher.returncode, stderr.read()


def _family(pid):
    """A process, and all that it and its children have started."""
    try:
        launcher = psutil.Process(pid)
        return [launcher, *launcher.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _computed(process):
    """Seconds of processor time."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def _signal(process, number):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
