"""The cells of the experiment on deployment, and what they measure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..digits.cell import DigitsTraining
from ..runs.cell import short_digest

EVERYTHING = tuple(range(10))


@dataclass(frozen=True)
class DeploymentSettings:
    """Every hyper-parameter of this experiment. Each result file holds a copy."""

    seeds: tuple[int, ...] = (0, 1, 2)
    used: tuple[tuple[int, ...], ...] = ((0, 1), (8, 9))
    further_tasks: int = 3
    unseen: float = 0.4  # share of the training images that are kept for use
    lambdas: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    arriving: int = 8  # images that arrive together
    training: DigitsTraining = field(
        default_factory=lambda: DigitsTraining(
            hidden_units=30, learning_rate=0.05, momentum=0.9, batch_size=32, epochs=8
        )
    )


@dataclass(frozen=True)
class DeploymentCell:
    """A network, what it is used for in turn, and how strongly that is protected."""

    used: tuple[tuple[int, ...], ...]
    lam: float | None  # None: there are no further tasks
    seed: int
    settings: DeploymentSettings

    @property
    def label(self) -> str:
        """What Ω is measured on."""
        return " then ".join(map(name_of, self.used)) or "finetuning"

    @property
    def name(self) -> str:
        """The name of its file: readable, and different for any two different cells."""
        used = self.label.replace(" ", "-")
        strength = "arriving" if self.lam is None else f"{self.lam:g}"
        return f"{used}-{strength}-seed{self.seed}-{short_digest(self)}"

    @property
    def expected_seconds(self) -> float:
        """A guess."""
        return 0.5 * (1 + (0 if self.lam is None else self.settings.further_tasks))


@dataclass(frozen=True)
class DeploymentResult:
    """What a run measured."""

    seen: list[int]  # samples so far
    ends: list[int]  # samples by the end of each use
    rank_correlation: dict[str, list[float]]  # of Ω so far with Ω of all such test images
    before: dict[str, float]  # accuracy on the first task's test images
    after: dict[str, float]
    changed: dict[str, float]  # of the outputs for them, relative
    further: float | None  # accuracy on further tasks


def name_of(digits: tuple[int, ...]) -> str:
    """In words."""
    return "all digits" if digits == EVERYTHING else " and ".join(map(str, digits))
