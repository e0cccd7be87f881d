"""Stands in for a training run where only the running itself is under test.

A module of its own, because worker processes import the function that they are sent. As a command,
``python run_counted.py EXECUTOR FOLDER ADDRESS``, it runs slow cells.
"""

import os
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.digits.cell import DigitsCell, DigitsTraining
from benchmarks.runs.executors import start
from benchmarks.runs.runner import Runner
from benchmarks.runs.store import CellStore
from benchmarks.training.result import StreamResult

LOG = "CELLS_RUN"  # the environment variable that names the file to note runs in
TRAINING = DigitsTraining(hidden_units=1, learning_rate=0.1, momentum=0.0, batch_size=1, epochs=1)
SLOW = 12  # cells of the command


def run_counted(cell):
    """Note that the cell was run; fail, die or take its time if it asks for that."""
    log = Path(os.environ[LOG])
    before = log.read_text().count(f"{cell.method} ")
    with log.open("a") as file:
        file.write(f"{cell.method} {os.getpid()}\n")
    if cell.method == "fails":
        raise ArithmeticError("this cell always fails")
    if cell.method == "dies":
        os._exit(3)
    if cell.method.startswith("slow"):
        time.sleep(1.0)
    if cell.method.startswith("waits to be killed") and not before:
        time.sleep(300.0)
    return result(cell.seed)


def result(number=0):
    """A result that can be told from others."""
    return StreamResult([[number / 10]], number / 10, None, 0.5, 0.25, 1000, f"{number:064d}")


def cell(method, seed=0):
    """A cell that can be told from others."""
    return DigitsCell("permuted", 2, method, 1.0, seed, 0.0, TRAINING)


def slow_cells():
    """The cells that the command runs."""
    return [cell(f"slow{number}", number) for number in range(SLOW)]


@contextmanager
def working(executor, store):
    """A runner and its executor, which is closed in the end."""
    with closing(executor), Runner(run_counted, store, executor) as run:
        yield run


if __name__ == "__main__":
    name, folder, address = sys.argv[1:]
    with working(start(name, 2, address or None), CellStore(Path(folder), {}, StreamResult)) as run:
        run("all", slow_cells())
