"""What the suite is asked to measure, and the form that every figure has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SpeedSettings:
    """What all figures of one folder have in common."""

    rounds: int  # of an interleaved measurement, see clock.interleave
    threads: int  # of torch's own operations
    device: str  # "cpu" or "cuda"
    quick: bool  # tiny sizes, to see whether all parts work

    @property
    def shortest(self) -> float:
        """Seconds that one timing lasts at least; quicker calls are repeated within it."""
        return 0.02 if self.quick else 0.2


@dataclass(frozen=True)
class Row:
    """One figure as it was measured."""

    way: str
    round: int
    value: float | None  # seconds or bytes, as its part says; None: it could not be measured
    note: str = ""  # how the way was altered to run, or why it could not
    x: float = 0.0  # what grows, in the part on growth


class Refused(Exception):
    """A way cannot measure this network; the message says why, in a few words."""


@dataclass(frozen=True)
class Section:
    """Figures that are saved together.

    :param part: a name from :data:`.suite.PARTS`.
    :param name: what is measured, such as a network.
    :param measure: a function of a module; it gives the rows as they come.
    :param calls: its arguments; each call has a process of its own.
    :param environment: variables that these processes start with.
    """

    part: str
    name: str
    measure: Callable[..., Iterator[Row]]
    calls: tuple[tuple[Any, ...], ...]
    environment: Mapping[str, str] = field(default_factory=dict)
