"""The paper's Table 3: facts in two random tasks; MAS beside its local variant."""

from __future__ import annotations

from ..cell import RunCells
from ..facts.cell import FactCell, FactResult, Row
from ..facts.experiment import CELLS, FactSettings, configure, prepare, run_rows, tiny
from ..facts.report import FactReport, Paper, end_panel, first_task_remarks
from ..facts.training import run_cell

__all__ = ["CELLS", "configure", "prepare", "run_cell"]

DESCRIPTION = "Table 3: fact learning in 2 random tasks; MAS, l-MAS and SI"

Result = FactResult

ROWS = (
    Row("finetuning", "finetuning"),
    Row("SI", "SI"),
    Row("l-MAS", "LocalMAS"),
    Row("MAS", "MAS"),
    Row("joint", "joint"),
)
PAPER: Paper = {  # T1, T2, all
    "finetuning": (0.199, 0.57, 0.279),
    "SI": (0.279, 0.462, 0.285),
    "l-MAS": (0.264, 0.466, 0.278),
    "MAS": (0.306, 0.504, 0.290),
}

SETTINGS = FactSettings("random-2", ROWS)
FAST = tiny(SETTINGS)


def run(settings: FactSettings, run_cells: RunCells[FactCell, FactResult]) -> FactReport:
    """Carry out the experiment: choose λ, then train and test with it.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    findings = run_rows(settings, run_cells)
    panel = end_panel(findings, "Table 3: facts in two random tasks, after the second", PAPER)
    return FactReport(findings, (panel,), tuple(first_task_remarks(findings.tests, "finetuning")))
