"""A difference between Avalanche's code and this package's: what is measured, and why."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias

from ..digits.cell import DigitsTraining


@dataclass(frozen=True)
class Pair:
    """The same quantity, measured on both sides."""

    avalanche: float
    here: float


Measure: TypeAlias = Callable[[DigitsTraining, int], Pair]
"""From how networks are trained and a seed to the two numbers."""


@dataclass(frozen=True)
class Difference:
    """A row of the table.

    :param method: whose.
    :param what: the quantity that is measured, with its unit.
    :param why: a sentence on why it matters.
    :param guard: the test that fails when either side changes: file and function, in ``tests``.
    :param measure: measures it.
    """

    method: str
    what: str
    why: str
    guard: str
    measure: Measure


def difference(method: str, what: str, guard: str) -> Callable[[Measure], Difference]:
    """Make a row of the function that measures it; its docstring is the reason why.

    :param method: see :class:`Difference`, as the others.
    :param what: the quantity and its unit.
    :param guard: the test.
    :return: a decorator.
    """

    def row(measure: Measure) -> Difference:
        why = " ".join((inspect.getdoc(measure) or "").split())
        return Difference(method, what, why, guard, measure)

    return row


def for_both(theirs: Any, ours: Any) -> Callable[[Callable[..., float]], Measure]:
    """Let a function measure both sides: it takes a class, how it is trained, and a seed.

    :param theirs: Avalanche's class.
    :param ours: this package's.
    :return: a decorator.
    """

    def pair(measure: Callable[..., float]) -> Measure:
        @wraps(measure)
        def both(training: DigitsTraining, seed: int) -> Pair:
            return Pair(measure(theirs, training, seed), measure(ours, training, seed))

        return both

    return pair
