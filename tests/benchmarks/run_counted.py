"""Stands in for a training run where only the running itself is under test.

A module of its own, because worker processes import the function that they are sent.
"""

import os
import time
from pathlib import Path

from benchmarks.cell import Result

LOG = "CELLS_RUN"  # the environment variable that names the file to note runs in


def run_counted(cell):
    """Note that the cell was run; fail, die or take its time if it asks for that."""
    with Path(os.environ[LOG]).open("a") as log:
        log.write(f"{cell.method}\n")
    if cell.method == "fails":
        raise ArithmeticError("this cell always fails")
    if cell.method == "dies":
        os._exit(3)
    if cell.method.startswith("slow"):
        time.sleep(1.0)
    return result(cell.seed)


def result(number=0):
    """A result that can be told from others."""
    return Result([[number / 10]], number / 10, None, 0.5, 0.25, 1000, f"{number:064d}")
