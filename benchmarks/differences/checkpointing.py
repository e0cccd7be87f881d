"""What Avalanche's checkpoints need of this package."""

from __future__ import annotations

import subprocess
import sys

from ..digits.cell import DigitsTraining
from .row import Pair, difference

# Run by itself: in this process the repair has been made when the package was imported.
_SAVE = """
import pickle
import tempfile
from pathlib import Path

import torch
from avalanche.checkpointing import save_checkpoint
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive


def saved():
    count = 0
    for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        model = torch.nn.Linear(2, 2)
        strategy = Naive(
            model=model,
            optimizer=optimizer(model.parameters(), lr=0.1),
            evaluator=EvaluationPlugin(loggers=[]),
        )
        with tempfile.TemporaryDirectory() as folder:
            try:
                save_checkpoint(strategy, Path(folder) / "checkpoint.pkl")
                count += 1
            except (pickle.PicklingError, TypeError):
                pass
    return count


before = saved()
import avalanche_mas.plugins
print("saved", before, saved())
"""


@difference(
    "checkpoints",
    "optimizers with which a strategy can be saved, of SGD, Adam and AdamW",
    "training/test_compat.py::test_without_the_repair_saving_fails",
)
def strategies_cannot_be_saved(training: DigitsTraining, seed: int) -> Pair:
    """Long training that is interrupted starts from the beginning.

    Importing `avalanche_mas.plugins` repairs it for every method, Avalanche's own too.
    """
    command = [sys.executable, "-W", "ignore", "-c", _SAVE]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = run.stdout.split()[-3:]
    if run.returncode or len(answer) != 3 or answer[0] != "saved":
        raise RuntimeError(f"trying to save strategies failed: {run.stderr[-500:]}")
    return Pair(float(answer[1]), float(answer[2]))
