"""The paper's Figure 2, which compares what methods are able to do, found by testing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from avalanche_mas.plugins.registry import METHODS

from ..figure2.properties import PROPERTIES, Finding
from ..figure2.trials import Trial
from ..report.formatter import listed
from ..report.writer import Part, Report, Table
from ..runs.cell import RunCells, short_digest

DESCRIPTION = "Figure 2: what each method is able to do, tested; beside what the paper says"

RESULT = Finding

# In the order of PROPERTIES. None: the paper says "n/a".
PAPER: Mapping[str, tuple[bool | None, ...]] = {
    "LwF": (True, False, True, None, False),
    "EBLL": (False, False, True, None, False),
    "EWC": (False, True, True, False, False),
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
class Figure2Settings:
    """Every hyper-parameter of this experiment. Each result file holds a copy."""

    trial: Trial = field(default_factory=Trial)
    seeds: tuple[int, ...] = (0,)


SETTINGS = Figure2Settings()
FAST = Figure2Settings(Trial(tasks=(2, 3), strengths=(1e-1, 1e1)))


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
        """The name of its file: readable, and different for any two different questions."""
        return f"{self.method}-{self.wanted.replace(' ', '-')}-{self.seed}-{short_digest(self)}"


@dataclass(frozen=True)
class Figure2Report(Report):
    """The answers, and how they are shown."""

    findings: Mapping[Question, Finding]

    def parts(self, origin: str) -> Iterator[Part]:
        """The table, the legend and the reasons."""
        trial = next(iter(self.findings)).trial
        seeds = listed(sorted({question.seed for question in self.findings}))
        yield Table("", self.table())
        yield LEGEND.format(seeds=seeds, tasks=trial.tasks)
        yield [*self.reasons(), origin]

    def data(self) -> pd.DataFrame:
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
        for method, of_method in self.data().groupby("method", sort=False):
            row = {"method": str(method)}
            for name, answers in of_method.groupby("property", sort=False):
                row[str(name)] = f"{_majority(answers)} ({answers['paper'].iloc[0]})"
            table.append(row)
        return pd.DataFrame(table)

    def reasons(self) -> list[str]:
        """Why the answer is not yes, or not the paper's: with the first seed's numbers or error."""
        sentences = []
        for (method, name), answers in self.data().groupby(["method", "property"], sort=False):
            holds, said = _majority(answers), answers["paper"].iloc[0]
            if holds != "yes" or said not in ("yes", "-"):
                differs = "" if said in (holds, "-") else f" (the paper: {said})"
                if (holds, said) == ("yes", "no"):
                    differs = " (better than the paper says)"
                reason = answers["reason"].iloc[0].rstrip(".")
                sentences.append(f"{method}, {name}: {holds}{differs}: {reason}.")
        return sentences


def run(settings: Figure2Settings, run_cells: RunCells[Question, Finding]) -> Figure2Report:
    """Ask every question of every method that has a strength."""
    questions = [
        Question(name, wanted, seed, settings.trial)
        for name, method in METHODS.items()
        if method.plugin
        for wanted in PROPERTIES
        for seed in settings.seeds
    ]
    return Figure2Report(run_cells("testing", questions))


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
