"""The paper's Table 1: four sequences of two object recognition tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..objects.cell import ObjectCell
from ..objects.experiment import PAIRS, ObjectSettings, run_sequences
from ..objects.pairs import LEGEND, PairsReport, Paper, mean_drop
from ..objects.training import run_cell
from ..report.formatter import listed
from ..runs.cell import RunCells
from ..training.result import StreamResult

__all__ = ["run_cell"]

DESCRIPTION = "Table 1: four sequences of two object recognition tasks, every method of the paper"
RESULT = StreamResult
METHODS = ("finetuning", "LwF", "EBLL", "meanIMM", "SI", "EWC", "MAS")
SETTINGS = ObjectSettings(PAIRS, METHODS, chosen_beside=True)
FAST = SETTINGS.tiny()

PAPER: Paper = {
    "finetuning": ((45.20, 8.0, 57.8), (49.7, 9.3, 52.8), (64.87, 13.2, 53.8), (70.17, 7.9, 57.31)),
    "LwF": ((51.65, 2.0, 55.59), (55.89, 3.1, 49.46), (73.97, 4.1, 53.64), (76.20, 1.2, 58.05)),
    "meanIMM": ((51.15, 2.1, 52.62), (54.76, 4.2, 52.20), (75.68, 2.4, 48.32), (76.28, 1.8, 55.64)),
    "SI": ((52.64, 1.0, 55.89), (57.46, 1.5, 49.70), (75.19, 2.9, 51.20), (76.61, 1.5, 57.53)),
    "MAS": ((53.24, 0.4, 55.0), (57.61, 1.4, 49.62), (77.33, 0.7, 50.39), (77.24, 0.8, 57.38)),
}


def run(settings: ObjectSettings, run_cells: RunCells[ObjectCell, StreamResult]) -> PairsReport:
    """Choose every λ, then train and test with it."""
    outcome = run_sequences("two tasks", settings, run_cells)
    runs = {label: by_sequence for (label, _), by_sequence in outcome.found.items()}
    return PairsReport(
        "two object recognition tasks",
        runs,
        PAPER,
        LEGEND.format(seeds=listed(settings.seeds))
        + " MAS has its published λ, untuned. IMM is the mean, which the paper takes for two "
        "tasks. The paper has no EBLL and no EWC.",
        [*outcome.remarks(), _mean_drops(runs)],
    )


def _mean_drops(runs: Mapping[str, Mapping[str, Sequence[StreamResult]]]) -> str:
    drops = sorted((mean_drop(of_method), method) for method, of_method in runs.items())
    by_size = listed(f"{method} {drop:.1f}" for drop, method in drops)
    return f"Drop of the first task in points, mean over the sequences: {by_size}."
