"""Shows what would be run, and how long it may take, without running any of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from ..runs.cell import Cell
from ..runs.store import CellStore

_OF_ROW = "finished runs of the same row"
_OF_ALL = "finished runs of other rows"
_SAID = "what the experiment says of itself"


class UnknownResultsError(Exception):
    """What comes next depends on results that are not there yet."""


class Planner:
    """Stands in for what runs cells: prints those of each part, and stops at the first unfinished.

    :param store: where finished cells are.
    :param console: where the plan is printed.
    :param at_once: how many cells would be run at a time.
    """

    def __init__(self, store: CellStore[Any], console: Console, at_once: int) -> None:
        self._store = store
        self._console = console
        self._at_once = at_once
        self._spent: dict[str, list[tuple[float, float]]] = {}  # by row: seconds, and expected

    def __call__(self, title: str, cells: Iterable[Any]) -> dict[Any, Any]:
        """Print a part.

        :return: its results, if all are there.
        :raises UnknownResultsError: if not.
        """
        found = {cell: self._store.load(cell) for cell in cells}
        for cell, result in found.items():
            seconds = None if result is None else self._store.seconds(cell)
            if seconds is not None:
                self._spent.setdefault(cell.label, []).append((seconds, _expected(cell) or 1.0))
        left = [cell for cell, result in found.items() if result is None]
        estimates = {cell: self._estimate(cell) for cell in left}
        if left:
            self._console.print(f"Part '{title}': {self._sum(estimates)}", markup=False)
        self._console.print(self._table(title, found, estimates))
        if left:
            raise UnknownResultsError(title)
        return found

    def _estimate(self, cell: Cell) -> tuple[float, str] | None:
        """How long a cell may take, in seconds, and where that is from.

        Finished runs say by what factor this machine is slower than the experiment expects; without
        any expectation, how long a run takes.
        """
        expected = _expected(cell)
        of_row = self._spent.get(cell.label, [])
        spent = of_row or [pair for row in self._spent.values() for pair in row]
        if spent:
            factor = sum(seconds for seconds, _ in spent) / sum(units for _, units in spent)
            return factor * (expected or 1.0), _OF_ROW if of_row else _OF_ALL
        return None if expected is None else (expected, _SAID)

    def _table(
        self,
        title: str,
        found: dict[Any, Any],
        estimates: dict[Any, tuple[float, str] | None],
    ) -> Table:
        table = Table("run", "state", "time", title=f"Part '{title}': {len(found)} runs")
        for cell, result in found.items():
            seconds = self._store.seconds(cell)
            if result is not None:
                table.add_row(cell.name, "finished", "" if seconds is None else duration(seconds))
            else:
                guess = estimates[cell]
                table.add_row(cell.name, "to run", f"≈ {duration(guess[0])}" if guess else "?")
        return table

    def _sum(self, estimates: dict[Any, tuple[float, str] | None]) -> str:
        known = [guess for guess in estimates.values() if guess]
        sources = Counter(source for _, source in known)
        sentences = [f"{len(estimates)} to run."]
        if known:
            total = sum(seconds for seconds, _ in known)
            longest = max(seconds for seconds, _ in known)
            at_best = max(longest, total / self._at_once)
            listed = "; ".join(f"{source} ({n})" for source, n in sources.items())
            sentences.append(
                f"About {duration(total)} of work, {duration(at_best)} with {self._at_once} at a "
                f"time. Estimated from {listed}."
            )
        if len(known) < len(estimates):
            missing = len(estimates) - len(known)
            sentences.append(
                f"How long {missing} of them take is not known before the first has been run."
            )
        return " ".join(sentences)


def _expected(cell: Cell) -> float | None:
    """What the experiment says how long a cell takes on one core, in seconds."""
    expected: float | None = getattr(cell, "expected_seconds", None)
    return expected


def duration(seconds: float) -> str:
    """A time span in two or three digits."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
