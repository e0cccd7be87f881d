"""What a claim is: a sentence of the paper, and how to read off a report whether it is so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

Read = Callable[[Any], Sequence[float]]
"""Reads a number for each seed off an experiment's report."""


@dataclass(frozen=True)
class Claim:
    """A number that must lie between bounds, or that must differ so from another.

    :param source: the table, figure or test of the paper.
    :param says: the claim, with its unit.
    :param paper: the paper's numbers.
    :param experiment: whose report tells.
    :param ours: what is claimed of, for each seed.
    :param than: what it is compared with, seed by seed; None: with the bounds as it is.
    :param low: what it, or the difference, must be above.
    :param high: what it, or the difference, must be below.
    :param form: the format of a number.
    """

    source: str
    says: str
    paper: str
    experiment: str
    ours: Read
    than: Read | None = None
    low: float = -inf
    high: float = inf
    form: str = ".1f"
