"""MAS and l-MAS with importance measured on training images, on test images, and on both."""

from __future__ import annotations

from dataclasses import replace

from ..cell import Result, RunCells
from ..objects.cell import ObjectCell
from ..objects.pairs import LEGEND, PairsOutcome, Paper, mean_drop
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

DESCRIPTION = "Table 2: MAS and l-MAS with Ω from training images, test images, and both"
CELLS = "objects"
SETTINGS = Settings(PAIRS, ("MAS", "LocalMAS"), seeds=(0, 1, 2))
FAST = tiny(SETTINGS)

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


def run(settings: Settings, run_cells: RunCells[ObjectCell, Result]) -> PairsOutcome:
    """Carry out the experiment: choose every λ with Ω of training images, then train and test.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    choices = choose_strengths(settings, run_cells)
    cells = {
        (f"{method}, {shown}", sequence, seed): replace(cell, streams=streams)
        for sequence in settings.sequences
        for (method, seed), cell in reported_cells(settings, choices, sequence).items()
        for streams, shown in _STREAMS.items()
    }
    results = run_cells("two tasks", cells.values())
    runs = {
        f"{method}, {shown}": {
            sequence: [
                results[cells[f"{method}, {shown}", sequence, seed]] for seed in settings.seeds
            ]
            for sequence in settings.sequences
        }
        for method in settings.methods
        for shown in _STREAMS.values()
    }
    drops = {row: mean_drop(of_row) for row, of_row in runs.items()}
    remarks = [
        f"{row}: the first task drops by {drop:.1f} points, mean over the sequences."
        for row, drop in drops.items()
    ]
    for method, paper in PAPER_DROPS.items():
        ours = drops[f"{method}, train"]
        remarks.append(
            f"{method} forgets {ours:.1f} %, in the paper about {paper:g} %: a difference of "
            f"{ours - paper:+.1f}."
        )
    strengths = ", ".join(f"{m} {c.lam:g}{'*' * c.at_edge}" for m, c in choices.items())
    return PairsOutcome(
        "importance measured on training images, test images, and both",
        runs,
        PAPER,
        LEGEND.format(seeds=", ".join(map(str, settings.seeds)))
        + f" λ: {strengths} (* at the edge of its grid).",
        remarks,
    )
