"""What Avalanche's own classes do otherwise than this package's, measured on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import pandas as pd

from ..differences import DIFFERENCES, Pair
from ..digits.cell import DigitsTraining
from ..report.formatter import listed, spread
from ..report.writer import Part, Report, Table
from ..runs.cell import RunCells, short_digest

DESCRIPTION = "what Avalanche's own methods do otherwise than ours, measured on both sides"

RESULT = Pair

LEGEND = (
    "Mean over the seeds {seeds}, ± their standard deviation where they differ in the digits "
    "shown; each value is in table.csv. Networks with {hidden_units} hidden units, mini-batches of "
    "{batch_size} and {epochs} epoch(s) of each task, on scikit-learn's digits and a CPU. Each row "
    "names a test in `tests` that shows it; `comparisons/test_differences.py` holds them all."
)

_TRAINING = DigitsTraining(
    hidden_units=50, learning_rate=0.05, momentum=0.9, batch_size=32, epochs=2
)


@dataclass(frozen=True)
class DifferencesSettings:
    """Every hyper-parameter of this experiment. Each result file holds a copy."""

    training: DigitsTraining = _TRAINING
    seeds: tuple[int, ...] = (0, 1, 2)


SETTINGS = DifferencesSettings()
FAST = DifferencesSettings(replace(_TRAINING, hidden_units=10, epochs=1), seeds=(0,))


@dataclass(frozen=True)
class Question:
    """How large is this difference?"""

    difference: str  # a key of DIFFERENCES
    seed: int
    training: DigitsTraining

    @property
    def label(self) -> str:
        """The row of the table."""
        return self.difference

    @property
    def name(self) -> str:
        """The name of its file: readable, and different for any two different questions."""
        return f"{self.difference.replace('_', '-')}-{self.seed}-{short_digest(self)}"


@dataclass(frozen=True)
class DifferencesReport(Report):
    """The numbers, and how they are shown."""

    pairs: Mapping[Question, Pair]

    def parts(self, origin: str) -> Iterator[Part]:
        """The table and the legend."""
        seeds = listed(sorted({question.seed for question in self.pairs}))
        training = next(iter(self.pairs)).training
        left = ("method", "what", "why it matters", "test")
        yield Table("", self.table(), left, lines=True)
        yield f"{LEGEND.format(seeds=seeds, **asdict(training))} {origin}"

    def data(self) -> pd.DataFrame:
        """A row for each difference and seed."""
        return pd.DataFrame(
            {
                "difference": question.difference,
                "seed": question.seed,
                "avalanche": pair.avalanche,
                "here": pair.here,
            }
            for question, pair in self.pairs.items()
        )

    def table(self) -> pd.DataFrame:
        """A row for each difference, as text ready to be read."""
        rows = []
        for name, of_one in self.data().groupby("difference", sort=False):
            row = DIFFERENCES[str(name)]
            rows.append(
                {
                    "method": row.method,
                    "what": row.what,
                    "Avalanche": _text(of_one["avalanche"]),
                    "here": _text(of_one["here"]),
                    "why it matters": row.why,
                    "test": f"`{row.guard}`",
                }
            )
        return pd.DataFrame(rows)


def run(settings: DifferencesSettings, run_cells: RunCells[Question, Pair]) -> DifferencesReport:
    """Measure every difference."""
    questions = [
        Question(name, seed, settings.training) for name in DIFFERENCES for seed in settings.seeds
    ]
    return DifferencesReport(run_cells("measuring", questions))


def run_cell(question: Question) -> Pair:
    """Measure one difference."""
    return DIFFERENCES[question.difference].measure(question.training, question.seed)


def _text(values: pd.Series[float]) -> str:
    """The mean in three digits, and the deviation if the values differ in these."""
    shown = {f"{value:.3g}" for value in values}
    return shown.pop() if len(shown) == 1 else spread(values, ".3g", ".2g")
