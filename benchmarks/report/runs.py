"""Runs on a stream as tables: a row for each run, or the mean and deviation of each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from ..training.result import StreamResult
from .formatter import spread

_TITLES = {
    "final_accuracy_percent": "final accuracy (%)",
    "forgetting_points": "forgetting (points)",
    "final_error": "final error",
    "error_rise": "rise of the error",
}


def runs_table(tests: Mapping[Any, StreamResult], error: bool = False) -> pd.DataFrame:
    """One row for each run, in plain units.

    :param tests: the runs, by cells with ``label``, ``lam`` and ``seed``.
    :param error: whether they measured errors, not accuracies.
    """
    final, lost = list(_TITLES)[2:] if error else list(_TITLES)[:2]
    unit = 1 if error else 100
    return pd.DataFrame(
        {
            "method": cell.label,
            "lambda": cell.lam,
            "seed": cell.seed,
            final: unit * result.final_accuracy,
            lost: None if result.forgetting is None else unit * result.forgetting,
            "train_seconds": result.train_seconds,
            "consolidation_seconds": result.consolidation_seconds,
            "memory_kilobytes": result.memory_bytes / 1000,
        }
        for cell, result in tests.items()
    )


def summary(runs: pd.DataFrame, strength: Callable[[str], str]) -> pd.DataFrame:
    """One row for each method, as text ready to be read.

    :param runs: rows of :func:`runs_table`.
    :param strength: how a method's λ is shown.
    """
    measured = {column: title for column, title in _TITLES.items() if column in runs}
    form = ".3g" if "final_error" in measured else ".1f"
    return pd.DataFrame(
        {
            "method": method,
            "λ": strength(str(method)),
            **{title: spread(of_method[column], form) for column, title in measured.items()},
            "seconds": spread(of_method["train_seconds"]),
            "memory (KB)": f"{of_method['memory_kilobytes'].mean():.1f}",
        }
        for method, of_method in runs.groupby("method", sort=False)
    )
