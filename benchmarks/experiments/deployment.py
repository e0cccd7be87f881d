"""MAS adapts to what a network is used for (Fig. 1 of the paper).

A network learns ten handwritten digits, and is then used on two of them. Ω is watched while it is
used. Afterwards it learns further tasks, the same digits with their pixels in other orders.
"""

from __future__ import annotations

from itertools import product

from ..deployment.cell import EVERYTHING, DeploymentCell, DeploymentResult, DeploymentSettings
from ..deployment.report import DeploymentReport
from ..deployment.training import run_cell
from ..digits.cell import DigitsTraining
from ..runs.cell import RunCells

__all__ = ["run_cell"]

DESCRIPTION = "MAS of what a network is used for: Ω as samples arrive, and what is kept of it"
RESULT = DeploymentResult
SETTINGS = DeploymentSettings()
FAST = DeploymentSettings(
    seeds=(0,),
    further_tasks=1,
    lambdas=(10.0,),
    training=DigitsTraining(30, 0.05, 0.9, 32, epochs=1),
)


def run(
    settings: DeploymentSettings, run_cells: RunCells[DeploymentCell, DeploymentResult]
) -> DeploymentReport:
    """Watch Ω as images arrive; then train on with every λ, each with Ω of one use or of all."""
    arriving = [DeploymentCell(settings.used, None, seed, settings) for seed in settings.seeds]
    measured = [(EVERYTHING,), *((used,) for used in settings.used)]
    keeping = [
        DeploymentCell(used, lam, seed, settings)
        for used, lam, seed in product(measured, settings.lambdas, settings.seeds)
    ]
    keeping += [DeploymentCell((), 0.0, seed, settings) for seed in settings.seeds]
    results = run_cells("deployment", [*arriving, *keeping])
    return DeploymentReport(
        settings, [results[cell] for cell in arriving], {cell: results[cell] for cell in keeping}
    )
