"""From settings to results: a strength is chosen for each method, then every sequence is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from avalanche_mas.benchmarks.object_benchmark import EIGHT_TASKS, TWO_TASK_SEQUENCES
from avalanche_mas.models.efficientnet import trained_part
from avalanche_mas.plugins.registry import METHODS

from ..report.formatter import listed
from ..runs.cell import RunCells
from ..training.learnt import learnt_seeds
from ..training.result import StreamResult
from ..training.selection import Choice, choose_lambdas, published_strength
from .cell import Drawn, FirstTask, ObjectCell, ObjectTraining
from .images import check_data

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

RunT = TypeVar("RunT", bound=StreamResult)

EIGHT = "-".join(EIGHT_TASKS)
PAIRS = tuple("-".join(tasks) for tasks in TWO_TASK_SEQUENCES.values())

DRAWN = Drawn()
PRETRAINED = ObjectTraining(
    # EfficientNet-Lite0 with ImageNet's weights, its first half frozen. Without BatchNorm it
    # diverges at three times this learning rate.
    model="pretrained",
    resize=64,
    crop=64,
    augmented=False,
    learning_rate=1e-3,
    drop_every=None,
    momentum=0.9,
    batch_size=32,
    epochs=5,
)
SMALL = ObjectTraining(
    # Size, learning rate and epochs were settled by finetuning, which had to forget at least 10
    # points on average, by joint training, which had to reach 80 %, and by the time they take; not
    # by what any other method makes of them.
    model="small",
    resize=48,
    crop=48,
    augmented=False,
    learning_rate=0.02,
    drop_every=None,
    momentum=0.9,
    batch_size=32,
    epochs=20,
)
PAPER = ObjectTraining(
    # Aljundi et al., ECCV 2018: AlexNet, 100 epochs, batches of 200, SGD. Learning rate, its drop,
    # the momentum and the first task are those of the code that they published; the paper gives
    # none.
    model="alexnet",
    resize=256,
    crop=224,
    augmented=True,
    learning_rate=8e-4,
    drop_every=54,
    momentum=0.9,
    batch_size=200,
    epochs=100,
    first=FirstTask(learning_rate=4e-4, drop_every=45, batch_size=100),
)


@dataclass(frozen=True)
class ObjectSettings:
    """Every hyper-parameter of an experiment. Each result file holds a copy."""

    sequences: tuple[str, ...]  # the tasks of each, joined by "-"
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    data: str | None = None  # the folder of the official data; None: the drawn ones
    drawn: Drawn | None = DRAWN
    training: ObjectTraining = PRETRAINED
    trainings: tuple[ObjectTraining, ...] = (PRETRAINED, SMALL, PAPER)  # to choose from, by network

    # MAS has its published strength, λ = 1, which the paper did not tune.
    untuned: tuple[str, ...] = ("MAS",)
    chosen_beside: bool = False  # whether these have another row each, with the strength chosen

    # The strength of each other method is chosen by one rule: of its published strength times these
    # factors, the one with the best mean accuracy after the first four tasks, on validation images,
    # a part of the training images, with a seed that is not among those reported. Test images are
    # never seen by the choice. With official data it is the published strength.
    factors: tuple[float, ...] = (1e-1, 1e0, 1e1)
    extensions: int = 2  # decades added at most, while the best lies at the grid's edge
    selection_sequence: str = "-".join(EIGHT_TASKS[:4])  # whole ones would take three times as long
    selection_validation: float = 0.2
    selection_seed: int = 100

    cells: ClassVar[str] = "objects"  # the folder of the cells, which experiments share

    def tiny(self) -> Self:
        """To see that all parts work; its numbers mean nothing."""
        sequences = ("-".join(s.split("-")[:2]) for s in self.sequences)
        sides = {"pretrained": 32, "small": 24, "alexnet": 224}
        pretrained, small, paper = (
            replace(t, crop=sides[t.model], resize=sides[t.model], epochs=1) for t in self.trainings
        )
        return replace(
            self,
            sequences=tuple(dict.fromkeys(sequences)),
            seeds=(0,),
            drawn=Drawn(images_per_class=4, size=24),
            training=small,
            trainings=(pretrained, small, paper),
            factors=(1.0, 10.0),
            extensions=0,
            selection_sequence="flowers-scenes",
        )

    def configure(
        self,
        data: Path | None = None,
        model: str | None = None,
        epochs: int | None = None,
        select: str | None = None,
    ) -> ObjectSettings:
        """Apply the options of the command line.

        :param data: the folder of the official data: the paper's training, published strengths.
        :param model: ``pretrained``, ``small``, ``alexnet``, or a file of AlexNet's weights; each
            is trained as it needs.
        :param epochs: passes over each task.
        :param select: how strengths are chosen: ``grid`` or ``published``.
        :raises ValueError: if there is no such model, or no such way to choose.
        """
        if select not in (None, "grid", "published"):
            raise ValueError(f"--select is {select!r}: give grid or published")
        settings, training = self, self.training
        known = {training.model: training for training in self.trainings}
        if data is not None:
            root = str(data.expanduser().resolve())
            settings = replace(self, data=root, drawn=None, factors=(1.0,))
            training = known["alexnet"]
        if model is not None:
            training = known.get(model) or replace(known["alexnet"], model=_weights(model))
        if epochs is not None:
            training = replace(training, epochs=epochs)
        if select == "published":
            settings = replace(settings, factors=(1.0,))
        return replace(settings, training=training)

    def cell(
        self, sequence: str, method: str, lam: float | None, seed: int, row: str = ""
    ) -> ObjectCell:
        """A run that is reported."""
        data, drawn, training = self.data, self.drawn, self.training
        return ObjectCell(sequence, method, lam, seed, 0.0, data, drawn, training, row=row)

    def grid(self, method: str) -> list[float]:
        """The strengths that a method's is chosen from at first."""
        return [factor * published_strength(method) for factor in self.factors]

    def prepare(self) -> None:
        """Draw the miniature, or check the official data.

        :raises FileNotFoundError: if the data, or a file of them, are missing.
        :raises ImportError: if the pretrained network's weights are not installed.
        :raises ValueError: if a file is not what it should be.
        """
        sequences = self.sequences
        if len(self.factors) > 1:
            sequences = (*sequences, self.selection_sequence)
        tasks = [task for sequence in sequences for task in sequence.split("-")]
        self._check_network()
        check_data(self.data, self.drawn, tasks, self.training)

    def check(self) -> None:
        """As :meth:`prepare`, but nothing is drawn.

        :raises FileNotFoundError: if official data, or a file of them, are missing.
        :raises ValueError: if a file is not what it should be.
        """
        self._check_network()
        if self.data is not None:
            self.prepare()

    def _check_network(self) -> None:
        if self.training.model == "pretrained":
            trained_part()  # or it is said how to install it


@dataclass(frozen=True)
class Row:
    """A row of a table: a method with a strength; None: it has none."""

    label: str
    method: str
    choice: Choice | None

    @property
    def shown(self) -> str:
        """The strength as tables show it."""
        return "-" if self.choice is None else str(self.choice)


@dataclass(frozen=True)
class Runs(Generic[RunT]):
    """All reported runs of an experiment.

    :param rows: those that were run, by label.
    :param found: by label and variant, then by sequence, the runs of the seeds that stay.
    :param seeds: those that stay, by sequence.
    :param left_out: a sentence on each seed that does not.
    """

    rows: Mapping[str, Row]
    found: Mapping[tuple[str, str], Mapping[str, list[RunT]]]
    seeds: Mapping[str, tuple[int, ...]]
    left_out: list[str]

    def remarks(self) -> list[str]:
        """How strong each method was, and which seeds were left out."""
        strengths = listed(f"{row.label} {row.shown}" for row in self.rows.values() if row.choice)
        return [f"λ: {strengths} (* at the edge of its grid).", *self.left_out]


def choose_rows(settings: ObjectSettings, run_cells: RunCells[ObjectCell, RunT]) -> dict[str, Row]:
    """Choose the strength of each of the experiment's methods that has one; its rows, by label."""
    protecting = [method for method in settings.methods if METHODS[method].plugin]
    choices = choose_lambdas(
        {
            method: settings.grid(method)
            for method in protecting
            if settings.chosen_beside or method not in settings.untuned
        },
        settings.extensions,
        lambda method, lam: [
            replace(
                settings.cell(settings.selection_sequence, method, lam, settings.selection_seed),
                validation=settings.selection_validation,
            )
        ],
        run_cells,
        lambda result: result.final_accuracy,
    )
    rows = []
    for method in settings.methods:
        chosen = choices.get(method)
        if method in settings.untuned:
            published = Choice(published_strength(method))
            rows.append(Row(method, method, published))
            if chosen is not None and chosen.lam != published.lam:
                rows.append(Row(f"{method}, λ chosen", method, chosen))
        else:
            rows.append(Row(method, method, chosen))
    return {row.label: row for row in rows}


def run_sequences(
    title: str,
    settings: ObjectSettings,
    run_cells: RunCells[ObjectCell, RunT],
    variants: Mapping[str, Callable[..., ObjectCell]] | None = None,
) -> Runs[RunT]:
    """Choose every strength, then run every sequence with every method and seed.

    :param title: of the runs that are reported.
    :param variants: what is done to the cells of a row for each of its variants; None: nothing.
    """
    variants = variants or {"": lambda cell: cell}
    rows = choose_rows(settings, run_cells)
    cells: dict[tuple[str, str, str, int], ObjectCell] = {}
    for sequence, row, (variant, change), seed in product(
        settings.sequences, rows.values(), variants.items(), settings.seeds
    ):
        lam = None if row.choice is None else row.choice.lam
        own = "" if row.label == row.method else row.label
        cell = settings.cell(sequence, row.method, lam, seed, own)
        cells[row.label, variant, sequence, seed] = change(cell)
    results = run_cells(title, cells.values())
    seeds, left_out = {}, []
    for sequence in settings.sequences:
        first = dict.fromkeys(settings.seeds, 0.0)
        for (_, _, of, seed), cell in cells.items():
            R = results[cell].accuracy
            if of == sequence and len(R) > 1:  # joint training has one row only
                first[seed] = max(first[seed], R[0][0] or 0.0)
        seeds[sequence], sentences = learnt_seeds(first, arrow(sequence))
        left_out += sentences
    found = {
        (label, variant): {
            sequence: [results[cells[label, variant, sequence, seed]] for seed in seeds[sequence]]
            for sequence in settings.sequences
        }
        for label in rows
        for variant in variants
    }
    return Runs(rows, found, seeds, left_out)


def arrow(sequence: str) -> str:
    """The name of a sequence as in the paper."""
    return "→".join(task.capitalize() for task in sequence.split("-"))


def _weights(model: str) -> str:
    """The path of a file of AlexNet's weights."""
    file = Path(model).expanduser()
    if not file.is_file():
        raise ValueError(
            f"--model is {model!r}: give pretrained, small, alexnet, or a file of AlexNet's weights"
        )
    return str(file.resolve())
