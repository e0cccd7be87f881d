"""Finds what was measured: the reports of experiments, with as many seeds as have been run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..experiments import load
from ..runs.store import CellStore
from .verdict import LEAST


class _MissingError(LookupError):
    """A run is not there."""


@dataclass(frozen=True)
class Results:
    """Where finished runs are.

    :param out: the results' folder of ``run``.
    :param published: a folder for each experiment, with its published runs.
    :param fast: whether those of the tiny versions are meant.
    """

    out: Path
    published: Path
    fast: bool = False

    def report(self, name: str) -> tuple[Any, str] | None:
        """An experiment's report, and what made its results; None if one seed has not been run.

        Where the experiment can be run with some of its methods, it is about those that were.

        :param name: the experiment's.
        """
        module = load(name)
        settings = module.FAST if self.fast else module.SETTINGS
        cells = f"{getattr(settings, 'cells', name)}{'-fast' if self.fast else ''}"
        published = self.published / cells / "cells.jsonl"
        store = CellStore[Any](self.out / cells, asdict(settings), module.RESULT, published)

        def look_up(title: str, cells: Iterable[Any]) -> dict[Any, Any]:
            found = {}
            for cell in cells:
                found[cell] = store.find(cell)
                if found[cell] is None:
                    raise _MissingError(cell.name)
            return found

        def find(settings: Any) -> Any:
            try:
                return module.run(settings, look_up)
            except _MissingError:
                return None

        for n in range(max(LEAST, len(settings.seeds)), 0, -1):
            asked = replace(settings, seeds=tuple(range(n)))
            if hasattr(settings, "methods"):
                ran = [m for m in settings.methods if find(replace(asked, methods=(m,)))]
                if not ran:
                    continue
                asked = replace(asked, methods=tuple(ran))
            if report := find(asked):
                return report, store.origin()
        return None


def command(name: str) -> str:
    """What runs an experiment with enough seeds."""
    enough = len(load(name).SETTINGS.seeds) >= LEAST
    return f"python -m benchmarks run {name}{'' if enough else f' --seeds {LEAST}'}"
