"""MAS told by a network's use what must not be forgotten (Fig. 1 of the paper).

A network learns ten handwritten digits, and is then used on two of them. Ω is watched while it is
used. Afterwards it learns further tasks, the same digits with their pixels in other orders.
"""

from __future__ import annotations

from itertools import product

from ..cell import RunCells, Training
from ..deployment.cell import EVERYTHING, DeploymentCell, Result, Settings
from ..deployment.report import Outcome
from ..deployment.training import run_cell

__all__ = ["Result", "run_cell"]

DESCRIPTION = "MAS of what a network is used for: Ω as samples arrive, and what is kept of it"
SETTINGS = Settings()
FAST = Settings(
    seeds=(0,), further_tasks=1, lambdas=(10.0,), training=Training(30, 0.05, 0.9, 32, epochs=1)
)


def run(settings: Settings, run_cells: RunCells[DeploymentCell, Result]) -> Outcome:
    """Carry out the experiment.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    arriving = [DeploymentCell(settings.used, None, seed, settings) for seed in settings.seeds]
    measured = [(EVERYTHING,), *((used,) for used in settings.used)]
    keeping = [
        DeploymentCell(used, lam, seed, settings)
        for used, lam, seed in product(measured, settings.lambdas, settings.seeds)
    ]
    keeping += [DeploymentCell((), 0.0, seed, settings) for seed in settings.seeds]
    results = run_cells("deployment", [*arriving, *keeping])
    return Outcome(
        settings, [results[cell] for cell in arriving], {cell: results[cell] for cell in keeping}
    )
