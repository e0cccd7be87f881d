"""MAS by the sensitivity of ‖F‖², and by that of every output: forgetting, and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ..objects.cell import ObjectCell
from ..objects.experiment import ObjectSettings, run_sequences
from ..objects.pairs import LEGEND, PairsReport, numbers
from ..objects.training import run_cell
from ..report.formatter import listed, spread
from ..runs.cell import RunCells
from ..training.stream import StreamResult

__all__ = ["run_cell"]

DESCRIPTION = "MAS by the squared norm of the output, and by the vector: forgetting and cost"
RESULT = StreamResult
SETTINGS = ObjectSettings(("flowers-scenes", "flowers-birds"), ("MAS",), seeds=(0, 1, 2))
FAST = SETTINGS.tiny()

_ROWS = {"norm": "‖F‖²", "vector": "vector"}
PAPER = {"norm": "0.47 ± 0.12", "vector": "0.51 ± 0.19"}  # %, first task's drop


def run(settings: ObjectSettings, run_cells: RunCells[ObjectCell, StreamResult]) -> PairsReport:
    """Choose λ for ‖F‖², then train and test both with it."""
    variants = {shown: partial(replace, output=output) for output, shown in _ROWS.items()}
    choices, found = run_sequences("two tasks", settings, run_cells, variants)
    runs = {shown: of_row for (_, shown), of_row in found.items()}
    remarks = []
    for output, shown in _ROWS.items():
        of_row = [result for results in runs[shown].values() for result in results]
        drops = [float(numbers(result)[1]) for result in of_row]
        remarks.append(
            f"{shown}: the first task drops by {spread(drops)} points over {len(of_row)} runs; in "
            f"the paper {PAPER[output]}, a difference of "
            f"{np.mean(drops) - float(PAPER[output].split()[0]):+.1f}. Measuring Ω takes "
            f"{_seconds(of_row):.2f} s a task."
        )
    return PairsReport(
        "which output's sensitivity is the importance",
        runs,
        {},
        LEGEND.format(seeds=listed(settings.seeds))
        + f" λ = {choices['MAS']} (* at the edge of its grid), "
        "chosen for ‖F‖².",
        remarks,
    )


def _seconds(results: Sequence[StreamResult]) -> float:
    return float(np.mean([result.consolidation_seconds / 2 for result in results]))
