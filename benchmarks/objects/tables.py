"""From results to tables: on the screen, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rich import table
from rich.console import Console

from ..cell import Result
from ..report import markdown_rows


@dataclass(frozen=True)
class Table:
    """A table that is ready to be read: one dictionary, column → text, for each row."""

    title: str
    rows: list[dict[str, str]]


def final_and_drop(result: Result) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy of each task after the last one, and the drop since it was learnt, in %.

    :return: both of shape (T,); drops are NaN after joint training.
    """
    R = 100 * np.array(result.accuracy, dtype=np.float64)
    drop = np.diag(R) - R[-1] if len(R) == R.shape[1] else np.full(R.shape[1], np.nan)
    return R[-1], drop


def mean_of(values: ArrayLike) -> float:
    """The mean as a plain number."""
    return float(np.asarray(values, dtype=np.float64).mean())


def spread(values: ArrayLike) -> str:
    """Mean ± standard deviation (of a sample: n - 1); a dash for what is not defined."""
    found = np.asarray(values, dtype=np.float64)
    if np.isnan(found).any():
        return "-"
    return f"{found.mean():.1f}" + (f" ± {found.std(ddof=1):.1f}" if len(found) > 1 else "")


def write_tables(
    tables: Sequence[Table], legend: str, remarks: Sequence[str], folder: Path, console: Console
) -> list[Path]:
    """Print tables and remarks, and save them as ``table.md`` and ``table.csv``.

    :param tables: what to show.
    :param legend: how the tables are to be read.
    :param remarks: sentences that follow.
    :param folder: where the files go.
    :param console: where all is printed.
    :return: the files.
    """
    lines = []
    for one in tables:
        frame = pd.DataFrame(one.rows)
        shown = table.Table(title=one.title)
        for i, column in enumerate(frame.columns):
            shown.add_column(column, justify="right" if i else "left", no_wrap=not i)
        for row in frame.itertuples(index=False):
            shown.add_row(*row)
        console.print(shown)
        lines += [f"**{one.title}**", "", *markdown_rows(frame), ""]
    console.print(legend, style="dim", markup=False)
    for remark in remarks:
        console.print(f"• {remark}", markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "table.md", folder / "table.csv"]
    lines += [legend, "", *(f"- {remark}" for remark in remarks), ""]
    files[0].write_text("\n".join(lines), encoding="utf-8")
    frames = [pd.DataFrame(one.rows).assign(table=one.title) for one in tables]
    pd.concat(frames).to_csv(files[1], index=False)
    return files
