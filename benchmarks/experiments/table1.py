"""The paper's Table 1: four sequences of two object recognition tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..objects.cell import ObjectCell
from ..objects.experiment import PAIRS, ObjectSettings, run_sequences
from ..objects.pairs import LEGEND, PairsReport, Paper, arrow, mean_drop, numbers
from ..objects.training import run_cell
from ..report.formatter import listed
from ..runs.cell import RunCells
from ..training.stream import StreamResult

__all__ = ["run_cell"]

DESCRIPTION = "Table 1: four sequences of two object recognition tasks, seven methods"
RESULT = StreamResult
SETTINGS = ObjectSettings(
    PAIRS, ("finetuning", "LwF", "EBLL", "meanIMM", "modeIMM", "SI", "EWC", "MAS"), seeds=(0,)
)
FAST = SETTINGS.tiny()

PAPER: Paper = {
    "MAS": ((53.24, 0.4, 55.0), (57.61, 1.4, 49.62), (77.33, 0.7, 50.39), (77.24, 0.8, 57.38)),
}
_IMM = ("meanIMM", "modeIMM")


def run(settings: ObjectSettings, run_cells: RunCells[ObjectCell, StreamResult]) -> PairsReport:
    """Choose every λ, then train and test with it; IMM is the better of its two each time."""
    choices, found = run_sequences("two tasks", settings, run_cells)
    runs: dict[str, dict[str, Sequence[StreamResult]]] = {}
    better = []
    for sequence in settings.sequences:
        of_method = {method: by_sequence[sequence] for (method, _), by_sequence in found.items()}
        imm = max(_IMM, key=lambda method: _mean_accuracy(of_method[method]))
        better.append(f"{imm} for {arrow(sequence)}")
        for method, of_seeds in of_method.items():
            if method == imm or method not in _IMM:
                runs.setdefault("IMM" if method == imm else method, {})[sequence] = of_seeds
    strengths = listed(f"{method} {choice}" for method, choice in choices.items())
    return PairsReport(
        "two object recognition tasks",
        runs,
        PAPER,
        LEGEND.format(seeds=listed(settings.seeds))
        + f" IMM is the better of its two, as in the paper: {listed(better)}. Of the paper's "
        "table only MAS's row is known here.",
        [f"λ: {strengths} (* at the edge of its grid).", _mean_drops(runs)],
    )


def _mean_accuracy(results: Sequence[StreamResult]) -> float:
    return float(np.mean([numbers(result)[[0, 2]] for result in results]))


def _mean_drops(runs: Mapping[str, Mapping[str, Sequence[StreamResult]]]) -> str:
    drops = sorted((mean_drop(of_method), method) for method, of_method in runs.items())
    by_size = listed(f"{method} {drop:.1f}" for drop, method in drops)
    return f"Drop of the first task in points, mean over the sequences: {by_size}."
