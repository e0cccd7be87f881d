"""A cell is one piece of work of an experiment: all that decides its result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, ClassVar, Protocol, TypeVar


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Cell(Dataclass, Protocol):
    """What every cell has, whatever its experiment: a frozen dataclass with a name."""

    @property
    def label(self) -> str:
        """The row of a table that the cell belongs to."""

    @property
    def name(self) -> str:
        """The name of its file: readable, and different for any two different cells."""


CellT = TypeVar("CellT", bound=Cell)
ResultT = TypeVar("ResultT", bound=Dataclass)
RunCells = Callable[[str, Iterable[CellT]], dict[CellT, ResultT]]
"""Turns a title and cells into the cells' results."""


def short_digest(cell: Cell) -> str:
    """Eight characters that differ for different cells."""
    return hashlib.sha256(json.dumps(asdict(cell)).encode()).hexdigest()[:8]


def training_name(stream: str, cell: Any) -> str:
    """The name of a cell that trains on a stream: what it is for, the row, λ and the seed.

    :param cell: it has ``validation``, ``label``, ``lam`` and ``seed``.
    """
    phase = "selection" if cell.validation else "test"
    label = cell.label.replace(", ", " ").replace(" ", "-")
    strength = "" if cell.lam is None else f"-{cell.lam:g}"
    return f"{stream}-{phase}-{label}{strength}-seed{cell.seed}-{short_digest(cell)}"
