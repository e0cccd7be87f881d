"""What Avalanche's own classes do otherwise than this package's, measured on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from ..cell import RunCells, Training, short_digest
from ..differences import DIFFERENCES, Pair
from ..report import markdown_rows

DESCRIPTION = "what Avalanche's own methods do otherwise than ours, measured on both sides"

Result = Pair

LEGEND = (
    "Mean over the seeds {seeds}, ± their standard deviation where they differ in the digits "
    "shown; each value is in table.csv. Networks with {hidden_units} hidden units, mini-batches of "
    "{batch_size} and {epochs} epoch(s) of each task, on scikit-learn's digits and a CPU. Each row "
    "names a test in `tests` that shows it; `comparisons/test_differences.py` holds them all."
)

_TRAINING = Training(hidden_units=50, learning_rate=0.05, momentum=0.9, batch_size=32, epochs=2)
_RULER = "| :-- | :-- | --: | --: | :-- | :-- |"


@dataclass(frozen=True)
class Settings:
    """Every hyper-parameter of this experiment. Each result file holds a copy."""

    training: Training = _TRAINING
    seeds: tuple[int, ...] = (0, 1, 2)


SETTINGS = Settings()
FAST = Settings(replace(_TRAINING, hidden_units=10, epochs=1), seeds=(0,))


@dataclass(frozen=True)
class Question:
    """How large is this difference?"""

    difference: str  # a key of DIFFERENCES
    seed: int
    training: Training

    @property
    def label(self) -> str:
        """The row of the table."""
        return self.difference

    @property
    def name(self) -> str:
        """What a file is called."""
        return f"{self.difference.replace('_', '-')}-{self.seed}-{short_digest(self)}"


@dataclass(frozen=True)
class Differences:
    """The numbers, and how they are shown."""

    pairs: Mapping[Question, Pair]

    def write(self, folder: Path, console: Console, origin: str) -> list[Path]:
        """Print the table, and save it.

        :param folder: where the files go.
        :param console: where the table is printed.
        :param origin: what made the results.
        :return: the files.
        """
        table, training = self.table(), next(iter(self.pairs)).training
        seeds = ", ".join(map(str, sorted({question.seed for question in self.pairs})))
        legend = LEGEND.format(seeds=seeds, **asdict(training))
        shown = Table(title="Avalanche's and ours", show_lines=True)
        for column in table.columns:
            numeric = column in ("Avalanche", "here")
            shown.add_column(column, justify="right" if numeric else "left")
        for row in table.itertuples(index=False):
            shown.add_row(*row)
        console.print(shown)
        console.print(legend, style="dim")
        folder.mkdir(parents=True, exist_ok=True)
        text = table.assign(test=[f"`{guard}`" for guard in self.guards()])
        head, _, *rows = markdown_rows(text)
        lines = [head, _RULER, *rows, "", f"{legend} {origin}", ""]
        files = [folder / "table.md", folder / "table.csv"]
        files[0].write_text("\n".join(lines), encoding="utf-8")
        self.numbers().to_csv(files[1], index=False)
        return files

    def numbers(self) -> pd.DataFrame:
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
        for name, of_one in self.numbers().groupby("difference", sort=False):
            row = DIFFERENCES[str(name)]
            rows.append(
                {
                    "method": row.method,
                    "what": row.what,
                    "Avalanche": _text(of_one["avalanche"]),
                    "here": _text(of_one["here"]),
                    "why it matters": row.why,
                }
            )
        return pd.DataFrame(rows)

    def guards(self) -> list[str]:
        """The tests that watch over the rows of the table."""
        names = dict.fromkeys(question.difference for question in self.pairs)
        return [DIFFERENCES[name].guard for name in names]


def run(settings: Settings, run_cells: RunCells[Question, Pair]) -> Differences:
    """Measure every difference.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    questions = [
        Question(name, seed, settings.training) for name in DIFFERENCES for seed in settings.seeds
    ]
    return Differences(run_cells("measuring", questions))


def run_cell(question: Question) -> Pair:
    """Measure one difference."""
    return DIFFERENCES[question.difference].measure(question.training, question.seed)


def _text(values: pd.Series[float]) -> str:
    """The mean in three digits, and the deviation if the values differ in these."""
    mean = f"{values.mean():.3g}"
    same = {f"{value:.3g}" for value in values} == {mean}
    return mean if same else f"{mean} ± {values.std():.2g}"
