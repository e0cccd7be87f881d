"""The cells of the experiments on facts, and what they measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from ..runs.cell import training_name

SUBSET = "sports"  # the name of the stream of the facts to adapt to, and of Ω measured on them
TRAIN_AND_TEST = "train and test"
PAPER_LAMBDA = 5.0  # of MAS


@dataclass(frozen=True)
class FactData:
    """Where pictures of facts and their embeddings come from."""

    root: str | None = None  # 6DS, in either release; None: the miniature, which is drawn
    vectors: str | None = None  # a file of word vectors; None: the embeddings of the release
    most: int = 96  # the miniature's pictures of its most frequent fact


@dataclass(frozen=True)
class FactTraining:
    """How the network is trained, the same for every method."""

    network: str  # "pretrained", "small", "vgg16" of torchvision, or a file of VGG-16's weights
    image_size: int  # side in pixels of what the network sees
    optimizer: Literal["sgd", "adam"]
    learning_rate: float
    momentum: float  # SGD's; Adam goes by its own defaults
    weight_decay: float  # not of biases
    batch_size: int
    epochs: int  # passes over the training pictures of a task
    decay_after: int | None = None  # epochs after which the learning rate is a tenth
    # Learning rates in units of learning_rate: of the last layers' weights, of their biases, and of
    # all other biases.
    last_rate: float = 1.0
    last_bias_rate: float = 1.0
    bias_rate: float = 1.0


@dataclass(frozen=True)
class Row:
    """A row of a table, or a line of a figure: a method, and the data it measures Ω on."""

    label: str
    method: str  # a name in METHODS
    measured_on: str = "train"  # or TRAIN_AND_TEST, or SUBSET: only for MAS
    lam: float | None = None  # its strength; None: it is chosen, if the method has one
    anew: bool = False  # Ω after each task is not added to the Ω before


@dataclass(frozen=True)
class FactCell:
    """Everything that a training run depends on. Equal cells give equal numbers."""

    split: str
    row: Row
    lam: float | None  # the method's strength λ; None: it has none
    seed: int  # of the tasks, the weights and the order of the samples
    validation: float  # share of each fact's training pictures to score on; 0: on the test pictures
    data: FactData
    training: FactTraining

    @property
    def label(self) -> str:
        """The row of a table that the run belongs to."""
        return self.row.label

    @property
    def name(self) -> str:
        """The name of its file: readable, and different for any two different cells."""
        return training_name(self.split, self)

    @property
    def expected_seconds(self) -> float | None:
        """How long it takes on one core, roughly; None for other data and for VGG-16."""
        of_a_picture = {"small": 0.005, "pretrained": 0.07}
        if self.data.root is not None or self.training.network not in of_a_picture:
            return None
        return of_a_picture[self.training.network] * self.data.most * self.training.epochs


@dataclass(frozen=True)
class FactResult:
    """What a run measured: mean average precisions, in [0, 1]."""

    tasks: list[list[float]]  # M[i][j]: of task j, among its own pictures, after training on i
    overall: list[float]  # of all facts among all pictures, after each task
    subset: list[float]  # of the sports facts among their own pictures; empty where not asked for
    train_seconds: float  # in all, evaluation left out
    memory_bytes: int  # what the method keeps beside the model
    weights_sha256: str  # of the final parameters
    silent: list[float] = field(default_factory=list)
    """The share of units that the sports' training pictures leave silent, after each task."""
    diverged: bool = False  # Ω became infinite or NaN; from there on the network was only scored

    @property
    def kept(self) -> float:
        """The mean over the tasks of their precision after the last."""
        return fmean(self.tasks[-1])
