"""MAS by the sensitivity of ‖F‖², and by that of every output: forgetting, and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..cell import Result, RunCells
from ..objects.cell import ObjectCell
from ..objects.pairs import LEGEND, PairsOutcome, numbers
from ..objects.settings import (
    Settings,
    choose_strengths,
    configure,
    prepare,
    reported_cells,
    tiny,
)
from ..objects.tables import spread
from ..objects.training import run_cell

__all__ = ["Result", "configure", "prepare", "run_cell"]

DESCRIPTION = "MAS by the squared norm of the output, and by the vector: forgetting and cost"
CELLS = "objects"
SETTINGS = Settings(("flowers-scenes", "flowers-birds"), ("MAS",), seeds=(0, 1, 2))
FAST = tiny(SETTINGS)

_ROWS = {"norm": "‖F‖²", "vector": "vector"}
PAPER = {"norm": "0.47 ± 0.12", "vector": "0.51 ± 0.19"}  # %, first task's drop


def run(settings: Settings, run_cells: RunCells[ObjectCell, Result]) -> PairsOutcome:
    """Carry out the experiment: choose λ for ‖F‖², then train and test both with it.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    choices = choose_strengths(settings, run_cells)
    cells = {
        (output, sequence, seed): replace(cell, output=output)
        for sequence in settings.sequences
        for (_, seed), cell in reported_cells(settings, choices, sequence).items()
        for output in _ROWS
    }
    results = run_cells("two tasks", cells.values())
    runs = {
        shown: {
            sequence: [results[cells[output, sequence, seed]] for seed in settings.seeds]
            for sequence in settings.sequences
        }
        for output, shown in _ROWS.items()
    }
    remarks = []
    for output, shown in _ROWS.items():
        of_row = [result for found in runs[shown].values() for result in found]
        drops = [float(numbers(result)[1]) for result in of_row]
        remarks.append(
            f"{shown}: the first task drops by {spread(drops)} points over {len(of_row)} runs; in "
            f"the paper {PAPER[output]}, a difference of "
            f"{np.mean(drops) - float(PAPER[output].split()[0]):+.1f}. Measuring Ω takes "
            f"{_seconds(of_row):.2f} s a task."
        )
    return PairsOutcome(
        "which output's sensitivity is the importance",
        runs,
        {},
        LEGEND.format(seeds=", ".join(map(str, settings.seeds)))
        + f" λ = {choices['MAS'].lam:g}{'*' * choices['MAS'].at_edge} (* at the edge of its grid), "
        "chosen for ‖F‖².",
        remarks,
    )


def _seconds(results: Sequence[Result]) -> float:
    return float(np.mean([result.consolidation_seconds / 2 for result in results]))
