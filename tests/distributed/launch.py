"""Starts processes that may take as long as a busy machine lets them, but not hang."""

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
STALLED = 60  # seconds in which no rank computes for a hundredth of a second: they hang


def run_until_stalled(command, folder, stalled=STALLED):
    """Exit status and stderr of processes, which may take as long as a busy machine lets them.

    Only where no rank computes any more are they stopped, and each says where it stands.
    """
    with open(folder / "stderr", "w+", encoding="utf-8") as stderr:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*FOLDERS, *sys.path])}
        agent = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr, text=True
        )
        computed, since = 0.0, time.monotonic()
        while agent.poll() is None:
            time.sleep(0.2)
            ranks = psutil.Process(agent.pid).children(recursive=True)
            now = sum(_computed(rank) for rank in ranks)
            if abs(now - computed) > 0.01 or not ranks:
                computed, since = now, time.monotonic()
            elif time.monotonic() - since > stalled:
                for rank in ranks:
                    rank.send_signal(signal.SIGUSR1)  # faulthandler's, see worker.py
                time.sleep(2)
                for process in (*ranks, agent):
                    process.kill()
                agent.wait()
                stderr.seek(0)
                pytest.fail(f"the processes hang:\n{stderr.read()[-20000:]}", pytrace=False)
        stderr.seek(0)
        return agent.returncode, stderr.read()


def _computed(process):
    """Seconds of processor time."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
