"""The paper's Table 4: facts in four random tasks, and Ω measured on test pictures as well."""

from __future__ import annotations

from functools import partial

from ..facts.cell import PAPER_LAMBDA, TRAIN_AND_TEST, FactResult, Row
from ..facts.experiment import FactSettings
from ..facts.report import Paper, run_table
from ..facts.training import run_cell

__all__ = ["run_cell"]

DESCRIPTION = "Table 4: fact learning in 4 random tasks; Ω on training pictures, or all"
RESULT = FactResult

ROWS = (
    Row("finetuning", "finetuning"),
    Row("SI", "SI"),
    Row("MAS", "MAS", lam=PAPER_LAMBDA),
    Row("MAS, train and test", "MAS", TRAIN_AND_TEST, PAPER_LAMBDA),
    Row("MAS, λ chosen", "MAS"),
)
PAPER: Paper = {  # T1 to T4, all
    "finetuning": (0.19, 0.19, 0.28, 0.71, 0.18),
    "SI": (0.36, 0.32, 0.38, 0.68, 0.25),
    "MAS": (0.42, 0.37, 0.41, 0.65, 0.29),
    "MAS, train and test": (0.43, 0.37, 0.46, 0.66, 0.30),
}

SETTINGS = FactSettings("random-4", ROWS)
FAST = SETTINGS.tiny()


run = partial(run_table, title="Table 4: facts in four random tasks, after the last", paper=PAPER)
