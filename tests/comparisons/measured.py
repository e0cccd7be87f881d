"""Stand-ins for measurements where only the running of them is under test.

A module of its own, because the processes that run them import it.
"""

import os
from pathlib import Path

from benchmarks.speed.rows import Row

SWITCH = "SPEED_TEST_SWITCH"  # an environment variable


def read_switch(way):
    """The variable as this process knows it, and which process that is."""
    yield Row(way, 0, 1.0, os.environ.get(SWITCH, "unset"))
    yield Row(way, 1, float(os.getpid()))


def fail(way):
    yield Row(way, 0, 1.0)
    raise ArithmeticError("this measurement always fails")


def die(way):
    yield Row(way, 0, 1.0)
    os._exit(3)


def fail_once(way, folder):
    """Fails until there is a file ``ready``; notes every start."""
    with Path(folder, "starts").open("a") as log:
        log.write(f"{way}\n")
    if way == "second" and not Path(folder, "ready").exists():
        raise ArithmeticError("not yet")
    yield Row(way, 0, 1.0)
