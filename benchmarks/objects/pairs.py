"""Tables of two-task sequences, in the layout of the paper's: first task (drop), second task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..report.formatter import spread
from ..report.writer import Part, Report, Table
from ..training.result import StreamResult
from .accuracies import final_and_drop
from .experiment import arrow

Paper = Mapping[str, Sequence[tuple[float, float, float]]]
"""Row → for each sequence: first task's accuracy, its drop, second task's accuracy, in %."""

LEGEND = (
    "In %, mean ± standard deviation over the seeds ({seeds}), on test images. For each sequence: "
    "accuracy on the first task after the second (its drop since it was learnt), and accuracy on "
    "the second."
)


def numbers(result: StreamResult) -> NDArray[np.float64]:
    """First task's accuracy, its drop, second task's accuracy, in %: shape (3,)."""
    final, drop = final_and_drop(result)
    return np.array([final[0], drop[0], final[1]])


@dataclass(frozen=True)
class PairsReport(Report):
    """Tables of our runs, of the paper's, and of their differences.

    :param title: of the table.
    :param runs: row → sequence → the runs of all seeds.
    :param paper: the paper's numbers for some rows.
    :param legend: how the table is to be read.
    :param remarks: sentences that follow.
    """

    title: str
    runs: Mapping[str, Mapping[str, Sequence[StreamResult]]]
    paper: Paper
    legend: str
    remarks: Sequence[str]

    def parts(self, origin: str) -> Iterator[Part]:
        """The tables, the legend and the remarks."""
        yield Table(self.title, pd.DataFrame(self._ours()))
        if self.paper:
            papers = "the paper's, on the real images with a pretrained AlexNet"
            yield Table(papers, pd.DataFrame(self._papers()))
            gaps = "difference of the mean drops in points: ours - the paper's"
            yield Table(gaps, pd.DataFrame(self._gaps()))
        yield self.legend
        yield [*self.remarks, origin]

    @property
    def _sequences(self) -> list[str]:
        return list(next(iter(self.runs.values())))

    def _ours(self) -> list[dict[str, str]]:
        rows = []
        for label, by_sequence in self.runs.items():
            row = {"method": label}
            for sequence, results in by_sequence.items():
                first, drop, second = np.array([numbers(result) for result in results]).T
                row[arrow(sequence)] = f"{spread(first)} ({spread(-drop)}) / {spread(second)}"
            rows.append(row)
        return rows

    def _papers(self) -> list[dict[str, str]]:
        return [
            {"method": label}
            | {
                arrow(sequence): f"{first:.1f} ({-drop:.1f}) / {second:.1f}"
                for sequence, (first, drop, second) in zip(
                    self._sequences, self.paper[label], strict=False
                )
            }
            for label in self.runs
            if label in self.paper
        ]

    def _gaps(self) -> list[dict[str, str]]:
        rows = []
        for label, by_sequence in self.runs.items():
            if label not in self.paper:
                continue
            row = {"method": label}
            pairs = zip(by_sequence.items(), self.paper[label], strict=False)
            for (sequence, results), (_, drop, _) in pairs:
                ours = np.mean([numbers(result)[1] for result in results])
                row[arrow(sequence)] = f"{ours - drop:+.1f}"
            rows.append(row)
        return rows


def mean_drop(by_sequence: Mapping[str, Sequence[StreamResult]]) -> float:
    """The first task's drop, mean over sequences and seeds, in points."""
    return float(np.mean([numbers(r)[1] for results in by_sequence.values() for r in results]))
