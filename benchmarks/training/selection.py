"""Chooses λ by one rule for all methods, from scores on validation data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean
from typing import TypeVar

from avalanche_mas.plugins.registry import METHODS

from ..runs.cell import CellT, ResultT, RunCells

Key = TypeVar("Key")

_GRID_RATIO = 10.0  # what grids are extended by

# Strengths of methods for which METHODS gives no published one.
_UNPUBLISHED = {
    "LocalMAS": 1.0,  # as MAS
    "OnlineEWC": 800.0,  # as EWC
    "AvalancheEWC": 400.0,  # as EWC; there is no ½ in its penalty
    "AvalancheSI": 1.0,  # as SI's c
}


@dataclass(frozen=True)
class Choice:
    """A chosen λ, and whether a better one may lie beyond the grid.

    :param scores: those of all λ that were tried; none for one that was given.
    """

    lam: float
    at_edge: bool = False
    scores: Mapping[float, float] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        """As tables show it: λ, with a star at the edge of the grid."""
        return f"{self.lam:g}{'*' * self.at_edge}"


def choose(scores: Mapping[float, float]) -> Choice:
    """Pick the λ with the best score, and the smallest of them if several share it.

    At an edge of the grid the best may lie outside. If the λ next to the edge does as well, it does
    not: the scores have levelled off, as they do where λ is too small to matter.

    :param scores: validation score of each λ.
    :raises ValueError: if there is nothing to choose from.
    """
    if not scores:
        raise ValueError("there is no λ to choose from")
    grid = sorted(scores)
    best = min(grid, key=lambda lam: (-scores[lam], lam))
    neighbours = {grid[0]: grid[1], grid[-1]: grid[-2]} if len(grid) > 1 else {}
    at_edge = best in neighbours and scores[best] > scores[neighbours[best]]
    return Choice(best, at_edge, scores)


def widen(scores: Mapping[float, float], ratio: float) -> float | None:
    """Name the λ to try next if the choice lies at an edge.

    :param scores: validation score of each λ of a geometric grid.
    :param ratio: the grid's ratio, above 1.
    :return: the λ one step beyond that edge, or None.
    """
    choice = choose(scores)
    if not choice.at_edge:
        return None
    return choice.lam * ratio if choice.lam == max(scores) else choice.lam / ratio


def choose_lambdas(
    grids: Mapping[Key, Sequence[float]],
    extensions: int,
    make_cells: Callable[[Key, float], Sequence[CellT]],
    run_cells: RunCells[CellT, ResultT],
    score: Callable[[ResultT], float],
) -> dict[Key, Choice]:
    """Choose from several grids, which widen by decades while their best lies at an edge.

    :param grids: the λ to begin with, for each thing whose λ is chosen. A single one is taken as it
        is, and nothing is run for it.
    :param extensions: how often a grid is widened at most.
    :param make_cells: names the runs that a λ is judged by.
    :param run_cells: turns a title and cells into the cells' results.
    :param score: what a run's result is worth, the higher the better; λ is judged by their mean.
    :return: for each grid, the choice.
    """
    untried = {key: grid for key, grid in grids.items() if len(grid) > 1}
    scores: dict[Key, dict[float, float]] = {key: {} for key in untried}
    for title in ["choosing λ", *["wider grids"] * extensions]:
        if not untried:
            break
        cells = {(key, lam): make_cells(key, lam) for key in untried for lam in untried[key]}
        results = run_cells(title, chain(*cells.values()))
        for (key, lam), judges in cells.items():
            scores[key][lam] = fmean(score(results[cell]) for cell in judges)
        steps = {key: widen(scores[key], _GRID_RATIO) for key in untried}
        untried = {key: (lam,) for key, lam in steps.items() if lam is not None}
    return {
        key: choose(scores[key]) if key in scores else Choice(grid[0])
        for key, grid in grids.items()
    }


def published_strength(method: str) -> float:
    """The strength that a method's authors, or others, used for the like; 1 if there is none."""
    entry = METHODS[method]
    if not entry.published:
        return _UNPUBLISHED.get(method, 1.0)
    name, unit = next(iter(entry.strength.items()))
    return float(entry.published[0].values[name]) / unit
