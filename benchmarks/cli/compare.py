"""Compares a method with others, seed by seed, from runs that are finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from ..report.formatter import spread, wins
from ..runs.cell import Cell

_NOT_COMPARED = {"lam", "seed", "method", "row"}  # fields of cells that may differ in a comparison


@dataclass(frozen=True)
class Measure:
    """A number that runs are compared by.

    :param title: what it is, with its unit.
    :param factor: from what results hold to that unit.
    :param higher: whether a higher one is better; None: neither is.
    """

    title: str
    factor: float = 1.0
    higher: bool | None = None


# By the names that results have for them. A number that is not named here is shown as it is.
MEASURES: Mapping[str, Measure] = {
    "final_accuracy": Measure("final accuracy (%)", 100, higher=True),
    "kept": Measure("precision, end (%)", 100, higher=True),
    "forgetting": Measure("forgetting (points)", 100, higher=False),
    "train_seconds": Measure("training (s)", 1, higher=False),
    "consolidation_seconds": Measure("consolidation (s)", 1, higher=False),
    "memory_bytes": Measure("memory (KB)", 1e-3, higher=False),
}


class Collector:
    """Hands on the finished results of an experiment, and notes those that are reported.

    :param look_up: turns a title and cells into results.
    """

    def __init__(self, look_up: Any) -> None:
        self._look_up = look_up
        self.parts: dict[str, dict[Any, Any]] = {}

    def __call__(self, title: str, cells: Iterable[Any]) -> dict[Any, Any]:
        """Look cells up. Those that λ was chosen by, on validation data, are not compared."""
        results: dict[Any, Any] = self._look_up(title, cells)
        reported = {c: r for c, r in results.items() if not getattr(c, "validation", 0)}
        if reported:
            self.parts.setdefault(title, {}).update(reported)
        return results

    def labels(self) -> list[str]:
        """The methods, or other rows of tables, that were met."""
        return list(dict.fromkeys(cell.label for part in self.parts.values() for cell in part))


def comparisons(parts: Mapping[str, Mapping[Any, Any]], methods: Sequence[str]) -> list[Table]:
    """Compare the first method with each of the others, wherever both ran with the same seeds.

    :param parts: the results of cells, by the title of the part.
    :param methods: labels of cells.
    :return: a table for each part, setting and other method.
    :raises ValueError: if there is nothing to compare.
    """
    first, *others = methods
    tables = []
    for title, results in parts.items():
        axes = _axes(results)
        for other in others:
            ours, theirs = (_by_setting(results, axes, name) for name in (first, other))
            for setting in ours:
                seeds = sorted(ours[setting].keys() & theirs.get(setting, {}).keys())
                if seeds:
                    pairs = {s: (ours[setting][s], theirs[setting][s]) for s in seeds}
                    where = ", ".join([title, *map(str, setting)])
                    tables.append(_table(where, first, other, pairs))
    if not tables:
        raise ValueError(
            f"no runs of {first} have the same setting and seed as any of {', '.join(others)}"
        )
    return tables


def _axes(results: Mapping[Any, Any]) -> list[str]:
    """The fields in which cells of one row differ: benchmarks, sequences, streams of data."""
    rows: dict[str, list[Cell]] = {}
    for cell in results:
        rows.setdefault(cell.label, []).append(cell)
    names = dict.fromkeys(field.name for cell in results for field in fields(cell))
    return [
        name
        for name in names
        if name not in _NOT_COMPARED
        and any(len({getattr(c, name, None) for c in cells}) > 1 for cells in rows.values())
    ]


def _by_setting(
    results: Mapping[Any, Any], axes: Sequence[str], method: str
) -> dict[tuple[Any, ...], dict[int, Any]]:
    found: dict[tuple[Any, ...], dict[int, Any]] = {}
    for cell, result in results.items():
        if cell.label == method:
            setting = tuple(getattr(cell, name, None) for name in axes)
            if cell.seed in found.setdefault(setting, {}):
                raise ValueError(f"there are several runs of {method} that differ in λ only")
            found[setting][cell.seed] = result
    return found


def _table(where: str, first: str, other: str, pairs: Mapping[int, tuple[Any, Any]]) -> Table:
    table = Table(title=f"{where}: {first} beside {other}", box=box.SIMPLE_HEAD)
    table.add_column("measure", no_wrap=True)
    for column in (first, other, "difference", "better"):
        table.add_column(column, justify="right")
    for name in _measured(next(iter(pairs.values()))[0]):
        measure = MEASURES.get(name, Measure(name))
        values = np.array(
            [[getattr(result, name) for result in pair] for pair in pairs.values()], dtype=float
        )
        if np.isnan(values).any():
            continue  # not defined for one of them, as forgetting for joint training
        ours, theirs = measure.factor * values.T
        gains = ours - theirs
        form = f",.{_decimals(max(abs(ours).max(), abs(theirs).max()))}f"
        spreads = [spread(ours, form), spread(theirs, form), spread(gains, f"+{form}", form)]
        table.add_row(measure.title, *spreads, wins(gains, measure.higher), style="bold")
        for seed, *of_seed, gain in zip(pairs, ours, theirs, gains, strict=True):
            both = (f"{value:{form}}" for value in of_seed)
            table.add_row(f"  seed {seed}", *both, f"{gain:+{form}}", "", style="dim")
    return table


def _measured(result: Any) -> list[str]:
    """The names of the single numbers that a result holds."""
    named = [name for name in MEASURES if hasattr(result, name)]
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    numbers = [k for k, v in values.items() if type(v) in (int, float)]
    return [*named, *(name for name in numbers if name not in named)]


def _decimals(largest: float) -> int:
    """How many show three digits of the largest number of a row, or all before the point."""
    return next((n for n, size in enumerate((100, 10, 1)) if largest >= size), 3)
