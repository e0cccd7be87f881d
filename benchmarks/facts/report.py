"""Tables of retrieval, with the paper's numbers below ours, and their differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import pandas as pd

from ..report.formatter import listed, spread
from ..report.writer import Part, Report, Table
from ..runs.cell import RunCells
from .cell import PAPER_LAMBDA, FactCell, FactResult
from .experiment import FactSettings, Findings, run_rows

LEGEND = (
    "Mean average precision of finding the pictures of a fact, mean ± standard deviation over the "
    "seeds ({seeds}). T1, T2, ...: facts of this task search among its own test pictures. All: all "
    "facts search among all test pictures. Facts with the same embedding count as one, and all "
    "ranks count. {data}{joint}λ: {rule}"
)
_DRAWN = (
    "The data are a drawn miniature of 6DS, so it is the order of the methods that can be compared "
    "with the paper, not the numbers. "
)
_JOINT = "Joint: trained on all tasks at once, an upper bound. "
_CHOSEN = (
    "the one of {grid} (extended by decades while the best lies at an edge) with the best mean "
    "over the tasks of {split}, on a part of the training pictures and with other seeds ({seeds}), "
    "and with * if it lies at the edge of a grid that was not extended further"
)
Paper = Mapping[str, Sequence[float | None]]  # for a row the value of each column, if it is known


@dataclass(frozen=True)
class Panel:
    """A table: what it is called, and what the paper has in it."""

    title: str
    columns: tuple[str, ...]
    values: Mapping[str, list[list[float]]]  # for a row the columns of each seed; NaN: undefined
    paper: Paper = field(default_factory=dict)

    def frame(self, lambdas: Mapping[str, str]) -> pd.DataFrame:
        """Three lines for each method at most: what was measured, the paper's, the difference.

        :param lambdas: λ of each row, as text.
        """
        lines = []
        for label, seeds in self.values.items():
            columns = list(zip(*seeds, strict=True))
            lines.append([label, lambdas.get(label, "-"), *(spread(c, ".2f") for c in columns)])
            if label in self.paper:
                known = self.paper[label]
                differences = [
                    "" if value is None else f"{fmean(column) - value:+.2f}"
                    for column, value in zip(columns, known, strict=True)
                ]
                given = ["" if value is None else f"{value:g}" for value in known]
                lines += [["· paper", "", *given], ["· difference", "", *differences]]
        return pd.DataFrame(lines, columns=["method", "λ", *self.columns])


@dataclass(frozen=True)
class FactReport(Report):
    """What was measured, and the tables that show it."""

    findings: Findings
    panels: tuple[Panel, ...]
    remarks: tuple[str, ...]

    def parts(self, origin: str) -> Iterator[Part]:
        """The tables, the legend and the remarks."""
        for panel in self.panels:
            yield Table(panel.title, panel.frame(self.findings.lambdas))
        yield _legend(self.findings)
        yield [*self.remarks, *self.findings.left_out, origin]

    def data(self) -> pd.DataFrame:
        """One row for each number that was measured."""
        return runs_table(self.findings.tests)


def run_table(
    settings: FactSettings, run_cells: RunCells[FactCell, FactResult], title: str, paper: Paper
) -> FactReport:
    """Carry out an experiment that compares its rows after the last task."""
    findings = run_rows(settings, run_cells)
    remarks = first_task_remarks(findings.tests, "finetuning")
    return FactReport(findings, (end_panel(findings, title, paper),), tuple(remarks))


def end_panel(findings: Findings, title: str, paper: Paper) -> Panel:
    """How well each task is known after the last one, as in Tables 3 and 4 of the paper."""
    values: dict[str, list[list[float]]] = {}
    for cell, result in findings.tests.items():
        values.setdefault(cell.label, []).append([*result.tasks[-1], result.overall[-1]])
    n_tasks = len(next(iter(findings.tests.values())).tasks[-1])
    return Panel(title, (*(f"T{i + 1}" for i in range(n_tasks)), "all"), values, paper)


def first_task_remarks(tests: Mapping[FactCell, FactResult], other: str) -> list[str]:
    """Say how much of the first task each row keeps, and on how many seeds more than another row.

    :param tests: the runs.
    :param other: the label of that row.
    """
    ends = {
        (cell.label, cell.seed): (result.tasks[0][0], result.tasks[-1][0])
        for cell, result in tests.items()
        if len(result.tasks) > 1  # joint training has one row only
    }
    sentences = []
    for label in dict.fromkeys(label for label, _ in ends):
        of_row = {seed: pair for (name, seed), pair in ends.items() if name == label}
        drops = listed(
            f"{first:.3f} to {last:.3f}, {100 * (last / first - 1):+.0f} % (seed {seed})"
            for seed, (first, last) in of_row.items()
        )
        more = sum(last > ends[other, seed][1] for seed, (_, last) in of_row.items())
        against = "" if label == other else f"; more than {other} on {more} of {len(of_row)} seeds"
        sentences.append(f"{label}, first task: {drops}{against}.")
    return sentences


def runs_table(tests: Mapping[FactCell, FactResult]) -> pd.DataFrame:
    """One row for each number that was measured."""
    rows = []
    for cell, result in tests.items():
        steps = range(1, len(result.tasks) + 1)
        for step, of_tasks, overall in zip(steps, result.tasks, result.overall, strict=True):
            found = {f"T{i + 1}": value for i, value in enumerate(of_tasks)} | {"all": overall}
            if result.subset:
                found["subset"] = result.subset[step - 1]
            after = "all together" if cell.row.method == "joint" else str(step)
            rows += [
                {
                    "method": cell.label,
                    "lambda": cell.lam,
                    "seed": cell.seed,
                    "after_task": after,
                    "facts": name,
                    "mean_average_precision": value,
                    "train_seconds": result.train_seconds,
                    "memory_kilobytes": result.memory_bytes / 1000,
                    "diverged": result.diverged,
                }
                for name, value in found.items()
            ]
    return pd.DataFrame(rows)


def _legend(findings: Findings) -> str:
    settings = findings.settings
    rows = [row for row in settings.rows if row.label in findings.lambdas]
    given = dict(settings.given)
    published = [row.label for row in rows if row.lam is not None or row.method in given]
    rules = [f"{PAPER_LAMBDA:g}, the paper's, for {'; '.join(published)}"] if published else []
    if len(published) < len(rows):
        grid = listed(f"{lam:g}" for lam in settings.lambdas)
        seeds = listed(settings.selection_seeds)
        rules.append(_CHOSEN.format(grid=grid, seeds=seeds, split=settings.selection_split))
    return LEGEND.format(
        seeds=listed(settings.seeds),
        data=_DRAWN if settings.data.root is None else "",
        joint=_JOINT if any(row.method == "joint" for row in settings.rows) else "",
        rule="; otherwise ".join(rules) + ".",
    )
