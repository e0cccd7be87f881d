"""The cells of the object recognition experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..runs.cell import training_name


@dataclass(frozen=True)
class Drawn:
    """Which miniature the images are of, see :func:`avalanche_mas.miniature.objects`."""

    images_per_class: int = 40
    size: int = 64
    seed: int = 0


@dataclass(frozen=True)
class FirstTask:
    """What is different while the first task is learnt; joint training has none."""

    learning_rate: float
    drop_every: int | None
    batch_size: int


@dataclass(frozen=True)
class ObjectTraining:
    """How the network is trained, the same for every method."""

    model: str  # "pretrained", "small", "alexnet" with ImageNet's weights, or the path of such
    resize: int  # an image's shorter side, in pixels
    crop: int  # the side of the square cut out of it
    augmented: bool  # cut out anywhere and mirrored, as the paper; else out of the middle
    learning_rate: float
    drop_every: int | None  # epochs after which the learning rate is divided by 10, in each task
    momentum: float  # SGD's
    batch_size: int
    epochs: int  # passes over the training images of a task
    first: FirstTask | None = None


@dataclass(frozen=True)
class ObjectCell:
    """Everything that a training run depends on. Equal cells give equal numbers."""

    sequence: str  # the tasks, joined by "-"
    method: str
    lam: float | None  # the method's strength; None: it has none
    seed: int  # of the weights, the order of the samples and the validation images
    validation: float  # share of the training images to score on; 0: score on the test images
    data: str | None  # the folder of the official data; None: the drawn ones
    drawn: Drawn | None
    training: ObjectTraining
    streams: str = "train"  # of MAS and l-MAS: where Ω is measured
    output: str = "norm"  # of MAS: which output's sensitivity Ω is
    row: str = ""  # of a table; empty: the method's own

    @property
    def label(self) -> str:
        """The row of a table that the run belongs to."""
        return self.row or self.method

    @property
    def name(self) -> str:
        """The name of its file: readable, and different for any two different cells."""
        many = len(self.tasks) > 2
        return training_name(f"{len(self.tasks)}tasks" if many else self.sequence, self)

    @property
    def expected_seconds(self) -> float | None:
        """How long it takes on one core, roughly; None for other data and for AlexNet."""
        of_an_image = {"small": 0.0035 / 48**2, "pretrained": 0.05 / 64**2}
        if self.drawn is None or self.training.model not in of_an_image:
            return None
        images = self.drawn.images_per_class * len(self.tasks) * self.training.epochs
        return of_an_image[self.training.model] * images * self.training.crop**2

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return self.sequence.split("-")

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the method's plugin besides its strength."""
        options: dict[str, Any] = {}
        if self.streams != "train":
            options["streams"] = self.streams.split("+")
        if self.output != "norm":
            options["output"] = self.output
        return options
