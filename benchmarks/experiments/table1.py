"""The paper's Table 1: four sequences of two object recognition tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..cell import Result, RunCells
from ..objects.cell import ObjectCell
from ..objects.pairs import LEGEND, PairsOutcome, Paper, arrow, mean_drop, numbers
from ..objects.settings import (
    PAIRS,
    Settings,
    choose_strengths,
    configure,
    prepare,
    reported_cells,
    tiny,
)
from ..objects.training import run_cell

__all__ = ["Result", "configure", "prepare", "run_cell"]

DESCRIPTION = "Table 1: four sequences of two object recognition tasks, seven methods"
CELLS = "objects"
SETTINGS = Settings(
    PAIRS, ("finetuning", "LwF", "EBLL", "meanIMM", "modeIMM", "SI", "EWC", "MAS"), seeds=(0,)
)
FAST = tiny(SETTINGS)

PAPER: Paper = {
    "MAS": ((53.24, 0.4, 55.0), (57.61, 1.4, 49.62), (77.33, 0.7, 50.39), (77.24, 0.8, 57.38)),
}
_IMM = ("meanIMM", "modeIMM")


def run(settings: Settings, run_cells: RunCells[ObjectCell, Result]) -> PairsOutcome:
    """Carry out the experiment: choose every λ, then train and test with it.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    choices = choose_strengths(settings, run_cells)
    cells = {s: reported_cells(settings, choices, s) for s in settings.sequences}
    results = run_cells("two tasks", [cell for found in cells.values() for cell in found.values()])
    runs: dict[str, dict[str, Sequence[Result]]] = {}
    better = []
    for sequence, found in cells.items():
        of_method = {
            method: [results[found[method, seed]] for seed in settings.seeds]
            for method in settings.methods
        }
        imm = max(_IMM, key=lambda method: _mean_accuracy(of_method[method]))
        better.append(f"{imm} for {arrow(sequence)}")
        for method, of_seeds in of_method.items():
            if method == imm or method not in _IMM:
                runs.setdefault("IMM" if method == imm else method, {})[sequence] = of_seeds
    return PairsOutcome(
        "two object recognition tasks",
        runs,
        PAPER,
        LEGEND.format(seeds=", ".join(map(str, settings.seeds)))
        + f" IMM is the better of its two, as in the paper: {', '.join(better)}. Of the paper's "
        "table only MAS's row is known here.",
        [
            "λ: "
            + ", ".join(f"{m} {c.lam:g}{'*' * c.at_edge}" for m, c in choices.items())
            + " (* at the edge of its grid).",
            _mean_drops(runs),
        ],
    )


def _mean_accuracy(results: Sequence[Result]) -> float:
    return float(np.mean([numbers(result)[[0, 2]] for result in results]))


def _mean_drops(runs: Mapping[str, Mapping[str, Sequence[Result]]]) -> str:
    drops = sorted((mean_drop(of_method), method) for method, of_method in runs.items())
    listed = ", ".join(f"{method} {drop:.1f}" for drop, method in drops)
    return f"Drop of the first task in points, mean over the sequences: {listed}."
