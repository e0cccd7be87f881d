"""How λ is chosen: by one rule for all methods, from scores on validation data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """A chosen λ, and whether a better one may lie beyond the grid."""

    lam: float
    at_edge: bool


def choose(scores: Mapping[float, float]) -> Choice:
    """Pick the λ with the best score, and the smallest of them if several share it.

    At an edge of the grid the best may lie outside. If the λ next to the edge does as well, it does
    not: the scores have levelled off, as they do where λ is too small to matter.

    :param scores: validation score of each λ.
    :return: the choice.
    :raises ValueError: if there is nothing to choose from.
    """
    if not scores:
        raise ValueError("there is no λ to choose from")
    grid = sorted(scores)
    best = min(grid, key=lambda lam: (-scores[lam], lam))
    neighbours = {grid[0]: grid[1], grid[-1]: grid[-2]} if len(grid) > 1 else {}
    at_edge = best in neighbours and scores[best] > scores[neighbours[best]]
    return Choice(best, at_edge)


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
