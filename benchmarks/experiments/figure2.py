"""The paper's Figure 2, which compares what methods are able to do, found by testing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from avalanche_mas.plugins.registry import METHODS

from ..cell import RunCells, short_digest
from ..properties import PROPERTIES, Finding
from ..report import markdown_rows
from ..trials import Trial

DESCRIPTION = "Figure 2: what each method is able to do, tested; beside what the paper says"

Result = Finding

# In the order of PROPERTIES. None: the paper says "n/a".
PAPER: Mapping[str, tuple[bool | None, ...]] = {
    "LwF": (True, False, None, None, False),
    "EBLL": (False, False, None, None, False),
    "EWC": (True, True, True, False, False),
    "IMM": (False, True, True, False, False),
    "SI": (True, True, False, False, False),
    "MAS": (True, True, True, True, True),
}
_ROW_OF = {"meanIMM": "IMM", "modeIMM": "IMM"} | {f"Avalanche{name}": name for name in PAPER}
_WORD = {True: "yes", False: "no", None: "n/a"}

LEGEND = (
    "Measured, and in brackets what the paper says of the method (-: it does not name it). Seeds: "
    "{seeds}. Constant memory: as much is kept with {tasks[1]} tasks as with {tasks[0]}. Problem "
    "agnostic: protects a network that predicts vectors. On pretrained: protects what a network "
    "learnt before the method came, given its data. Unlabelled data: the same without labels. "
    "Adaptive: given unlabelled data of one of a network's abilities, protects that one more."
)


@dataclass(frozen=True)
class Settings:
    """Every hyper-parameter of this experiment. Each result file holds a copy."""

    trial: Trial = field(default_factory=Trial)
    seeds: tuple[int, ...] = (0,)


SETTINGS = Settings()
FAST = Settings(Trial(tasks=(2, 3), strengths=(1e-1, 1e1)))


@dataclass(frozen=True)
class Question:
    """Does this method have this property?"""

    method: str
    wanted: str  # a key of PROPERTIES
    seed: int
    trial: Trial

    @property
    def label(self) -> str:
        """The row of the table."""
        return self.method

    @property
    def name(self) -> str:
        """What a file is called."""
        return f"{self.method}-{self.wanted.replace(' ', '-')}-{self.seed}-{short_digest(self)}"


@dataclass(frozen=True)
class Characteristics:
    """The answers, and how they are shown."""

    findings: Mapping[Question, Finding]

    def write(self, folder: Path, console: Console, origin: str) -> list[Path]:
        """Print the table and the reasons, and save them.

        :param folder: where the files go.
        :param console: where the table is printed.
        :param origin: what made the results.
        :return: the files.
        """
        table, reasons = self.table(), self.reasons()
        trial = next(iter(self.findings)).trial
        seeds = ", ".join(map(str, sorted({question.seed for question in self.findings})))
        legend = LEGEND.format(seeds=seeds, tasks=trial.tasks)
        shown = Table(title="Characteristics of methods", show_lines=False)
        for i, column in enumerate(table.columns):
            shown.add_column(column, no_wrap=not i)
        for row in table.itertuples(index=False):
            shown.add_row(*row)
        console.print(shown)
        console.print(legend, style="dim")
        for reason in reasons:
            console.print(f"• {reason}", markup=False)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [*markdown_rows(table), "", legend, "", *(f"- {reason}" for reason in reasons)]
        files = [folder / "table.md", folder / "table.csv"]
        files[0].write_text("\n".join([*lines, f"- {origin}", ""]), encoding="utf-8")
        self.rows().to_csv(files[1], index=False)
        return files

    def rows(self) -> pd.DataFrame:
        """Every single answer."""
        return pd.DataFrame(
            {
                "method": question.method,
                "property": question.wanted,
                "seed": question.seed,
                "holds": _WORD[finding.holds],
                "paper": _paper(question),
                "reason": finding.reason,
            }
            for question, finding in self.findings.items()
        )

    def table(self) -> pd.DataFrame:
        """A row for each method: what was measured, and what the paper says."""
        table = []
        for method, of_method in self.rows().groupby("method", sort=False):
            row = {"method": str(method)}
            for name, answers in of_method.groupby("property", sort=False):
                row[str(name)] = f"{_majority(answers)} ({answers['paper'].iloc[0]})"
            table.append(row)
        return pd.DataFrame(table)

    def reasons(self) -> list[str]:
        """Why the answer is not yes, or not the paper's: with the first seed's numbers or error."""
        sentences = []
        for (method, name), answers in self.rows().groupby(["method", "property"], sort=False):
            holds, said = _majority(answers), answers["paper"].iloc[0]
            if holds != "yes" or said not in ("yes", "-"):
                differs = "" if said in (holds, "-") else f" (the paper: {said})"
                reason = answers["reason"].iloc[0].rstrip(".")
                sentences.append(f"{method}, {name}: {holds}{differs}: {reason}.")
        return sentences


def run(settings: Settings, run_cells: RunCells[Question, Finding]) -> Characteristics:
    """Ask every question of every method that has a strength.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    questions = [
        Question(name, wanted, seed, settings.trial)
        for name, method in METHODS.items()
        if method.plugin
        for wanted in PROPERTIES
        for seed in settings.seeds
    ]
    return Characteristics(run_cells("testing", questions))


def run_cell(question: Question) -> Finding:
    """Answer one question."""
    test = PROPERTIES[question.wanted]
    return test(METHODS[question.method], question.trial, question.seed)


def _paper(question: Question) -> str:
    """What the paper says; a dash if nothing."""
    row = PAPER.get(_ROW_OF.get(question.method, question.method))
    return "-" if row is None else _WORD[row[list(PROPERTIES).index(question.wanted)]]


def _majority(answers: pd.DataFrame) -> str:
    """The seeds' answer, or how many of them say yes."""
    found = set(answers["holds"])
    if len(found) == 1:
        return str(found.pop())
    return f"{(answers['holds'] == 'yes').sum()} of {len(answers)}"
