"""What came out of a comparison of one's own: tables, a figure, tests over the seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rich.console import Console

from avalanche_mas.evaluation import plots

from ..claims.verdict import LEAST, LEVEL, judge
from ..report.formatter import listed, spread, wins
from ..report.overview import overview
from ..report.runs import runs_table, summary
from ..report.writer import Part, Report, Table
from ..runs.store import write_whole
from ..training.result import StreamResult
from ..training.selection import Choice
from .cell import OwnCell

_FILE = "comparison.json"


@dataclass(frozen=True)
class Comparison(Report):
    """The runs of several methods on one benchmark, as :func:`compare_methods` makes them.

    :param runs: those that are reported, by method and seed, in the order of the methods.
    :param choices: of λ, for each method that has one.
    :param tasks: the names of the experiences.
    :param error: whether errors were measured, not accuracies.
    :param remarks: sentences under the tables.
    :param origin: what made the results.
    """

    runs: tuple[tuple[OwnCell, StreamResult], ...]
    choices: dict[str, Choice]
    tasks: tuple[str, ...]
    error: bool
    remarks: tuple[str, ...]
    origin: str

    @property
    def methods(self) -> list[str]:
        """The names of the methods."""
        return list(dict.fromkeys(cell.method for cell, _ in self.runs))

    def table(self) -> pd.DataFrame:
        """A row for each method: mean ± standard deviation over the seeds.

        :return: text, ready to be read; numbers are in :meth:`data`.
        """
        return summary(self.data(), lambda method: str(self.choices.get(method, "-")))

    def data(self) -> pd.DataFrame:
        """A row for each run.

        :return: numbers.
        """
        return runs_table(dict(self.runs), self.error)

    def paired(self, method: str | None = None) -> pd.DataFrame:
        """Test one method against each of the others, seed by seed, by the paired t-test.

        With fewer than five seeds nothing is decided, as for the paper's claims. Each p is of one
        test by itself.

        :param method: its name; None: MAS, or else the first one.
        :return: a row for each other method: the difference of the final accuracies or errors, on
            how many seeds the method is better, p, and whether it is better or worse.
        :raises ValueError: if there is no such method.
        """
        names = self.methods
        method = method or ("MAS" if "MAS" in names else names[0])
        if method not in names:
            raise ValueError(f"method is {method!r}: give one of {listed(names)}")
        ours = self._final(method)
        rows = []
        for other in names:
            if other == method:
                continue
            gains = ours - self._final(other)
            verdict = judge(-gains if self.error else gains, low=0.0)
            form = ".3g" if self.error else ".1f"
            rows.append(
                {
                    "method": other,
                    f"{method} minus it": spread(gains, f"+{form}", form),
                    f"{method} better": wins(gains, higher=not self.error),
                    "p": "-" if verdict.p is None else f"{verdict.p:.2g}",
                    "verdict": verdict.compared,
                }
            )
        return pd.DataFrame(rows)

    def plot(self) -> Figure:
        """Draw what is left of each task in the end, and accuracy against forgetting.

        Of errors, bars for each task.

        :return: the figure; ``figure.savefig(file)`` saves it.
        """
        finals = {method: self._matrix_ends(method) for method in self.methods}
        if not self.error:
            runs = self.data()
            lost = {
                method: runs.loc[runs["method"] == method, "forgetting_points"].to_numpy(float)
                for method in finals
            }
            return overview(finals, lost, self.tasks)
        several = all(len(of_method) > 1 for of_method in finals.values())
        axes = plots.plot_task_bars(
            {method: ends.mean(axis=0).tolist() for method, ends in finals.items()},
            self.tasks,
            errors={m: ends.std(axis=0, ddof=1).tolist() for m, ends in finals.items()}
            if several
            else None,
            label="error after the last task",
        )
        figure = axes.get_figure(root=True)
        assert figure is not None
        return figure

    def parts(self, origin: str) -> Iterator[Part]:
        """The table, the paired tests, a legend and remarks."""
        cells = [cell for cell, _ in self.runs]
        seeds = sorted({cell.seed for cell in cells})
        yield Table(f"{len(self.tasks)} experiences", self.table())
        if len(self.methods) > 1 and len(seeds) > 1:
            yield Table("final error" if self.error else "final accuracy (points)", self.paired())
        yield (
            f"Mean ± standard deviation over the seeds ({listed(seeds)}), on the stream 'test' "
            "after the last experience. Forgetting: mean change since an experience was learnt. "
            "Memory: tensors kept beside the model. λ marked * lies at the edge of a grid that was "
            f"not extended further. The test is a paired t-test; it decides with p < {LEVEL} and "
            f"at least {LEAST} seeds."
        )
        yield [*self.remarks, origin]

    def draw(self, folder: Path) -> list[Path]:
        """Save the figure."""
        picture = folder / f"{folder.name}.png"
        self.plot().savefig(picture, dpi=150)
        return [picture]

    def save(self, folder: str | Path, console: Console | None = None) -> list[Path]:
        """Write all of it: tables as Markdown and CSV, the figure, and what :meth:`load` reads.

        :param folder: it is made if need be.
        :param console: where tables and remarks are printed too; None: nowhere.
        :return: the files.
        """
        folder = Path(folder).absolute()
        files = self.write(folder, console or Console(quiet=True), self.origin)
        text = TypeAdapter(Comparison).dump_json(self, indent=1).decode()
        write_whole(folder / _FILE, text)
        return [*files, folder / _FILE]

    @staticmethod
    def load(folder: str | Path) -> Comparison:
        """Read what :meth:`save` has written.

        :param folder: the same.
        :return: the comparison.
        :raises FileNotFoundError: if there is none.
        :raises ValueError: if the file is damaged.
        """
        return TypeAdapter(Comparison).validate_json((Path(folder) / _FILE).read_bytes())

    def _of(self, method: str) -> list[StreamResult]:
        return [result for cell, result in self.runs if cell.method == method]

    def _final(self, method: str) -> NDArray[np.float64]:
        unit = 1 if self.error else 100
        return unit * np.array([result.final_accuracy for result in self._of(method)])

    def _matrix_ends(self, method: str) -> NDArray[np.float64]:
        """The last rows of R, of shape (seeds, tasks)."""
        unit = 1 if self.error else 100
        return unit * np.array([run.accuracy[-1] for run in self._of(method)], dtype=float)
