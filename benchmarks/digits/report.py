"""The tables of accuracy and forgetting on digits, one for each benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from ..report.formatter import listed
from ..report.runs import runs_table, summary
from ..report.writer import Part, Report, Table
from ..training.result import StreamResult
from ..training.selection import Choice
from .cell import DigitsCell
from .plot import plot_accuracy

LEGEND = (
    "Mean ± standard deviation over the seeds ({seeds}). Accuracy: mean over the experiences after "
    "the last one, on test images. Forgetting: mean drop since an experience was learned. Seconds: "
    "training of the whole stream on one core. Memory: tensors kept beside the model. λ marked * "
    "lies at the edge of a grid that was not extended further."
)


@dataclass(frozen=True)
class DigitsReport(Report):
    """What the runs measured, by benchmark and method.

    :param tests: the runs that are reported.
    :param choices: of λ, by benchmark and row.
    :param remarks: sentences under the tables.
    :param styles: of the plot's lines, by row; empty: those of all figures.
    """

    tests: Mapping[DigitsCell, StreamResult]
    choices: Mapping[tuple[str, str], Choice]
    remarks: list[str]
    styles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def parts(self, origin: str) -> Iterator[Part]:
        """A table for each benchmark, the legend and the remarks."""
        for benchmark in dict.fromkeys(cell.benchmark for cell in self.tests):
            n = next(c.n_experiences for c in self.tests if c.benchmark == benchmark)
            yield Table(f"{benchmark} digits, {n} experiences", self.summary(benchmark))
        yield LEGEND.format(seeds=listed(sorted({cell.seed for cell in self.tests})))
        yield [*self.remarks, origin]

    def data(self) -> pd.DataFrame:
        """One row for each run that is reported, in plain units."""
        runs = runs_table(self.tests)
        runs.insert(0, "benchmark", [cell.benchmark for cell in self.tests])
        return runs

    def draw(self, folder: Path) -> list[Path]:
        """Accuracy as the stream goes on."""
        picture = folder / f"{folder.name}.png"
        plot_accuracy(self.tests, self.styles, picture)
        return [picture]

    def summary(self, benchmark: str) -> pd.DataFrame:
        """One row for each method of a benchmark, as text ready to be read."""
        runs = self.data()
        runs = runs[runs["benchmark"] == benchmark]
        return summary(runs, lambda method: self._strength(benchmark, method))

    def _strength(self, benchmark: str, method: str) -> str:
        """A method's λ, if it has one for all experiences."""
        if choice := self.choices.get((benchmark, method)):
            return str(choice)
        records = chain(*(run.found for cell, run in self.tests.items() if cell.label == method))
        return "below" if any(record["strength"] is not None for record in records) else "-"
