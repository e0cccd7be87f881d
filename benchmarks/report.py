"""From results to a table: on the screen, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from .cell import Cell, Result
from .plot import plot_accuracy
from .selection import Choice

LEGEND = (
    "Mean ± standard deviation over the seeds ({seeds}). Accuracy: mean over the experiences after "
    "the last one, on test images. Forgetting: mean drop since an experience was learned. Seconds: "
    "training of the whole stream on one core. Memory: tensors kept beside the model. λ marked * "
    "lies at the edge of a grid that was not extended further."
)


@dataclass(frozen=True)
class Outcome:
    """What an experiment leaves to report."""

    tests: Mapping[Cell, Result]
    choices: Mapping[tuple[str, str], Choice]  # of λ, by benchmark and row
    remarks: list[str]
    styles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the plot's lines

    def write(self, folder: Path, console: Console, origin: str) -> list[Path]:
        """Print the tables and remarks, and save them and the plot.

        :param folder: where the files go.
        :param console: where the tables are printed.
        :param origin: what made the results.
        :return: the files.
        """
        write_report(replace(self, remarks=[*self.remarks, origin]), folder, console)
        picture = folder / f"{folder.name}.png"
        plot_accuracy(self, picture)
        return [folder / "table.md", folder / "table.csv", picture]


def runs_table(outcome: Outcome) -> pd.DataFrame:
    """One row for each run that is reported, in plain units."""
    return pd.DataFrame(
        {
            "benchmark": cell.benchmark,
            "method": cell.label,
            "lambda": cell.lam,
            "seed": cell.seed,
            "final_accuracy_percent": 100 * result.final_accuracy,
            "forgetting_points": None if result.forgetting is None else 100 * result.forgetting,
            "train_seconds": result.train_seconds,
            "consolidation_seconds": result.consolidation_seconds,
            "memory_kilobytes": result.memory_bytes / 1000,
        }
        for cell, result in outcome.tests.items()
    )


def summary_table(outcome: Outcome, benchmark: str) -> pd.DataFrame:
    """One row for each method of a benchmark, as text ready to be read."""
    runs = runs_table(outcome)
    runs = runs[runs["benchmark"] == benchmark]
    rows = []
    for method, of_method in runs.groupby("method", sort=False):
        rows.append(
            {
                "method": method,
                "λ": _strength(outcome, benchmark, str(method)),
                "final accuracy (%)": _mean_std(of_method["final_accuracy_percent"]),
                "forgetting (points)": _mean_std(of_method["forgetting_points"]),
                "seconds": _mean_std(of_method["train_seconds"]),
                "memory (KB)": f"{of_method['memory_kilobytes'].mean():.1f}",
            }
        )
    return pd.DataFrame(rows)


def write_report(outcome: Outcome, folder: Path, console: Console) -> None:
    """Print the tables and the remarks, and save them as ``table.md`` and ``table.csv``.

    :param outcome: what to report.
    :param folder: where the files go.
    :param console: where the tables are printed.
    """
    seeds = ", ".join(str(seed) for seed in sorted({cell.seed for cell in outcome.tests}))
    legend = LEGEND.format(seeds=seeds)
    lines = []
    for benchmark in dict.fromkeys(cell.benchmark for cell in outcome.tests):
        summary = summary_table(outcome, benchmark)
        n = next(c.n_experiences for c in outcome.tests if c.benchmark == benchmark)
        title = f"{benchmark} digits, {n} experiences"
        print_table(summary, title, console)
        lines += [f"**{title}**", "", *markdown_rows(summary), ""]
    lines += [legend, "", *(f"- {remark}" for remark in outcome.remarks), ""]
    console.print(legend, style="dim")
    for remark in outcome.remarks:
        console.print(f"• {remark}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text("\n".join(lines), encoding="utf-8")
    runs_table(outcome).to_csv(folder / "table.csv", index=False)


def _strength(outcome: Outcome, benchmark: str, method: str) -> str:
    """A method's λ, if it has one for all experiences."""
    if choice := outcome.choices.get((benchmark, method)):
        return f"{choice.lam:g}{'*' if choice.at_edge else ''}"
    records = chain(*(run.found for cell, run in outcome.tests.items() if cell.label == method))
    return "below" if any(record["strength"] is not None for record in records) else "-"


def _mean_std(values: pd.Series[float]) -> str:
    """Mean ± standard deviation (of a sample: n − 1); without ± if there is one value."""
    if values.isna().any():
        return "-"
    mean = f"{values.mean():.1f}"
    return f"{mean} ± {values.std():.1f}" if len(values) > 1 else mean


def print_table(frame: pd.DataFrame, title: str, console: Console) -> None:
    """Show a table of text on the screen."""
    table = Table(title=title)
    for column in frame.columns:
        named = column == "method"
        table.add_column(column, justify="left" if named else "right", no_wrap=named)
    for row in frame.itertuples(index=False):
        table.add_row(*row)
    console.print(table)


def markdown_rows(frame: pd.DataFrame) -> list[str]:
    """A table of text, as lines of Markdown."""
    ruler = [":--" if column == "method" else "--:" for column in frame.columns]
    rows = [list(frame.columns), ruler, *frame.values.tolist()]
    return [f"| {' | '.join(row)} |" for row in rows]
