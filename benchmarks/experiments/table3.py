"""The paper's Table 3: facts in two random tasks; MAS beside its local variant."""

from __future__ import annotations

from functools import partial

from ..facts.cell import PAPER_LAMBDA, FactResult, Row
from ..facts.experiment import FactSettings
from ..facts.report import Paper, run_table
from ..facts.training import run_cell

__all__ = ["run_cell"]

DESCRIPTION = "Table 3: fact learning in 2 random tasks; MAS, l-MAS and SI"
RESULT = FactResult

ROWS = (
    Row("finetuning", "finetuning"),
    Row("SI", "SI"),
    Row("l-MAS", "LocalMAS"),
    Row("MAS", "MAS", lam=PAPER_LAMBDA),
    Row("MAS, λ chosen", "MAS"),
    Row("joint", "joint"),
)
PAPER: Paper = {  # T1, T2, all
    "finetuning": (0.199, 0.57, 0.279),
    "SI": (0.279, 0.462, 0.285),
    "l-MAS": (0.264, 0.466, 0.278),
    "MAS": (0.306, 0.504, 0.290),
}

SETTINGS = FactSettings("random-2", ROWS)
FAST = SETTINGS.tiny()


run = partial(run_table, title="Table 3: facts in two random tasks, after the second", paper=PAPER)
