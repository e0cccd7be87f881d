"""The cells of the experiments on digits: a small network, a method and its λ."""

from __future__ import annotations

from dataclasses import dataclass

from ..runs.cell import training_name


@dataclass(frozen=True)
class DigitsTraining:
    """How the network is trained, the same for every method."""

    hidden_units: int  # one hidden layer of ReLUs, no dropout
    learning_rate: float  # constant
    momentum: float  # SGD's
    batch_size: int
    epochs: int  # passes over the training images of an experience


@dataclass(frozen=True)
class DigitsCell:
    """Everything that a training run depends on. Equal cells give equal numbers."""

    benchmark: str
    n_experiences: int
    method: str
    lam: float | None  # the method's strength λ (for LwF its α); None: it has none
    seed: int  # of the benchmark, the weights and the order of the samples
    validation: float  # share of the training images to score on; 0: score on the test images
    training: DigitsTraining

    @property
    def label(self) -> str:
        """The row of a table that the run belongs to."""
        return self.method

    @property
    def name(self) -> str:
        """The name of its file: readable, and different for any two different cells."""
        return training_name(self.benchmark, self)

    @property
    def expected_seconds(self) -> float:
        """How long it takes on one core, roughly: a pass over all digits takes 0.07 s."""
        passes = 1 if self.benchmark == "split" else self.n_experiences
        return 0.07 * passes * self.training.epochs
