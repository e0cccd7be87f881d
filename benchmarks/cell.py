"""A cell is one piece of work of an experiment: all that decides its result, and the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class AnyCell(Dataclass, Protocol):
    """What every cell has, whatever its experiment: a frozen dataclass with a name."""

    @property
    def label(self) -> str:
        """The row of a table that the cell belongs to."""

    @property
    def name(self) -> str:
        """What a file is called: readable, and unlike for any two unlike cells."""


CellT = TypeVar("CellT", bound=AnyCell)
ResultT = TypeVar("ResultT", bound=Dataclass)
RunCells = Callable[[str, Iterable[CellT]], dict[CellT, ResultT]]
"""Turns a title and cells into the cells' results."""


def short_digest(cell: AnyCell) -> str:
    """Eight characters that are unlike for unlike cells."""
    return hashlib.sha256(json.dumps(asdict(cell)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Training:
    """How the network is trained, the same for every method."""

    hidden_units: int  # one hidden layer of ReLUs, no dropout
    learning_rate: float  # constant
    momentum: float  # SGD's
    batch_size: int
    epochs: int  # passes over the training images of an experience


@dataclass(frozen=True)
class Cell:
    """Everything that a training run depends on. Equal cells give equal numbers."""

    benchmark: str
    n_experiences: int
    method: str
    lam: float | None  # the method's strength λ (for LwF its α); None: it has none
    seed: int  # of the benchmark, the weights and the order of the samples
    validation: float  # share of the training images to score on; 0: score on the test images
    training: Training

    @property
    def label(self) -> str:
        """The row of a table that the run belongs to."""
        return self.method

    @property
    def name(self) -> str:
        """What a file is called: readable, and unlike for any two unlike cells."""
        phase = "selection" if self.validation else "test"
        strength = "" if self.lam is None else f"-{self.lam:g}"
        return (
            f"{self.benchmark}-{phase}-{self.label}{strength}-seed{self.seed}-{short_digest(self)}"
        )

    @property
    def expected_seconds(self) -> float:
        """How long it takes on one core, roughly: a pass over all digits takes 0.07 s."""
        passes = 1 if self.benchmark == "split" else self.n_experiences
        return 0.07 * passes * self.training.epochs


@dataclass(frozen=True)
class Result:
    """What a run measured."""

    accuracy: list[list[float | None]]  # R[i][j]: on experience j after training on i
    final_accuracy: float  # mean of R's last row
    forgetting: float | None  # mean of R[j][j] − R[-1][j]; None: not defined
    train_seconds: float  # in all, evaluation left out
    consolidation_seconds: float  # of these, the method's work at the ends of experiences
    memory_bytes: int  # what the method keeps beside the model
    weights_sha256: str  # of the final parameters
    diverged: bool = False  # Ω became infinite or NaN; from there on the network was only scored
    memory_after_each: list[int] = field(default_factory=list)  # bytes, after each experience
    found: list[dict[str, Any]] = field(default_factory=list)  # by the framework, for each
