"""MAS and l-MAS with importance measured on training images, on test images, and on both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..objects.cell import ObjectCell
from ..objects.experiment import PAIRS, ObjectSettings, run_sequences
from ..objects.pairs import LEGEND, PairsReport, Paper, mean_drop
from ..objects.training import run_cell
from ..report.formatter import listed
from ..runs.cell import RunCells
from ..training.stream import StreamResult

__all__ = ["run_cell"]

DESCRIPTION = "Table 2: MAS and l-MAS with Ω from training images, test images, and both"
RESULT = StreamResult
SETTINGS = ObjectSettings(PAIRS, ("MAS", "LocalMAS"), seeds=(0, 1, 2))
FAST = SETTINGS.tiny()

_STREAMS = {"train": "train", "test": "test", "train+test": "train + test"}
PAPER: Paper = {
    "MAS, train": (
        (53.24, 0.4, 55.0), (57.61, 1.4, 49.62), (77.33, 0.7, 50.39), (77.24, 0.8, 57.38)
    ),
    "MAS, test": (
        (53.43, 0.2, 55.07), (57.31, 1.7, 49.01), (77.62, 0.5, 50.29), (77.45, 0.6, 57.45)
    ),
    "MAS, train + test": (
        (53.29, 0.3, 56.04), (57.83, 1.2, 49.56), (77.52, 0.6, 49.70), (77.54, 0.5, 57.39)
    ),
    "LocalMAS, train": (
        (51.36, 2.3, 55.67), (56.79, 2.2, 49.08), (73.96, 4.1, 50.5), (76.20, 1.9, 56.68)
    ),
    "LocalMAS, test": (
        (51.62, 2.0, 53.95), (55.74, 3.3, 50.43), (74.48, 3.6, 50.32), (76.56, 1.5, 57.83)
    ),
    "LocalMAS, train + test": (
        (52.15, 1.5, 54.40), (56.79, 2.2, 48.92), (73.73, 4.3, 50.5), (76.41, 1.7, 57.91)
    ),
}  # fmt: skip
PAPER_DROPS = {"MAS": 1.0, "LocalMAS": 3.0}  # %, as the text says


def run(settings: ObjectSettings, run_cells: RunCells[ObjectCell, StreamResult]) -> PairsReport:
    """Choose every λ with Ω of training images, then train and test with it."""
    variants = {shown: partial(replace, streams=streams) for streams, shown in _STREAMS.items()}
    choices, found = run_sequences("two tasks", settings, run_cells, variants)
    runs = {f"{method}, {shown}": of_row for (method, shown), of_row in found.items()}
    drops = {row: mean_drop(of_row) for row, of_row in runs.items()}
    remarks = [
        f"{row}: the first task drops by {drop:.1f} points, mean over the sequences."
        for row, drop in drops.items()
    ]
    for method, paper in PAPER_DROPS.items():
        if method not in settings.methods:
            continue  # --methods has left it out
        ours = drops[f"{method}, train"]
        remarks.append(
            f"{method} forgets {ours:.1f} %, in the paper about {paper:g} %: a difference of "
            f"{ours - paper:+.1f}."
        )
    strengths = listed(f"{method} {choice}" for method, choice in choices.items())
    return PairsReport(
        "importance measured on training images, test images, and both",
        runs,
        PAPER,
        LEGEND.format(seeds=listed(settings.seeds))
        + f" λ: {strengths} (* at the edge of its grid).",
        remarks,
    )
