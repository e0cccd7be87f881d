"""Hyper-parameters of the object recognition experiments, and how strengths are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avalanche_mas.benchmarks.object_benchmark import EIGHT_TASKS, TWO_TASK_SEQUENCES
from avalanche_mas.plugins.registry import METHODS

from ..cell import Result, RunCells
from ..selection import Choice, choose, validation_scores
from .cell import Drawn, ObjectCell, Training
from .images import check_data

EIGHT = "-".join(EIGHT_TASKS)
PAIRS = tuple("-".join(tasks) for tasks in TWO_TASK_SEQUENCES.values())

DRAWN = Drawn()
SMALL = Training(
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
PAPER = Training(
    # Aljundi et al., ECCV 2018: AlexNet, 100 epochs, batches of 200, SGD. Learning rate, its drop
    # and the momentum are those of the code that they published; the paper gives none.
    model="alexnet",
    resize=256,
    crop=224,
    augmented=True,
    learning_rate=8e-4,
    drop_every=54,
    momentum=0.9,
    batch_size=200,
    epochs=100,
)

# Strengths of methods for which METHODS gives no published one.
_UNPUBLISHED = {
    "LocalMAS": 1.0,  # as MAS
    "OnlineEWC": 800.0,  # as EWC
    "AvalancheEWC": 400.0,  # as EWC; there is no ½ in its penalty
    "AvalancheSI": 1.0,  # as SI's c
}


@dataclass(frozen=True)
class Settings:
    """Every hyper-parameter of an experiment. Each result file holds a copy."""

    sequences: tuple[str, ...]  # the tasks of each, joined by "-"
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    data: str | None = None  # the folder of the official data; None: the drawn ones
    drawn: Drawn | None = DRAWN
    training: Training = SMALL
    paper: Training = PAPER  # takes its place if there are official data

    # The strength of each method is chosen by one rule: of its published strength times these
    # factors, the one with the best mean accuracy after the first four tasks, on validation images,
    # a part of the training images, with a seed that is not among those reported. Test images are
    # never seen by the choice. With official data it is the published strength.
    factors: tuple[float, ...] = (1e-1, 1e0, 1e1)
    extensions: int = 2  # decades added at most, while the best lies at the grid's edge
    selection_sequence: str = "-".join(EIGHT_TASKS[:4])  # whole ones would take three times as long
    selection_validation: float = 0.2
    selection_seed: int = 100


def tiny(settings: Settings) -> Settings:
    """To see that all parts work; its numbers mean nothing."""
    sequences = tuple("-".join(s.split("-")[:2]) for s in settings.sequences)
    return replace(
        settings,
        sequences=tuple(dict.fromkeys(sequences)),
        seeds=(0,),
        drawn=Drawn(images_per_class=4, size=24),
        training=replace(settings.training, resize=24, crop=24, epochs=1),
        paper=replace(settings.paper, epochs=1),
        factors=(1.0, 10.0),
        extensions=0,
        selection_sequence="flowers-scenes",
    )


def configure(
    settings: Settings,
    data: Path | None = None,
    model: str | None = None,
    epochs: int | None = None,
) -> Settings:
    """Apply the options of the command line.

    :param settings: the experiment's own.
    :param data: the folder of the official data: the paper's training, and published strengths.
    :param model: ``small``, ``alexnet``, or a file of AlexNet's weights.
    :param epochs: passes over each task.
    :raises ValueError: if there is no such model.
    """
    if data is not None:
        settings = replace(
            settings,
            data=str(data.expanduser().resolve()),
            drawn=None,
            training=settings.paper,
            factors=(1.0,),
        )
    training = settings.training
    if model == "small":
        training = replace(training, model=model)
    elif model == "alexnet":
        training = _for_alexnet(training, model)
    elif model is not None:
        weights = Path(model).expanduser()
        if not weights.is_file():
            raise ValueError(
                f"--model is {model!r}: give small, alexnet, or a file of AlexNet's weights"
            )
        training = _for_alexnet(training, str(weights.resolve()))
    if epochs is not None:
        training = replace(training, epochs=epochs)
    return replace(settings, training=training)


def prepare(settings: Settings) -> None:
    """Draw the miniature, or check the official data.

    :raises FileNotFoundError: if the data, or a file of them, are missing.
    :raises ValueError: if a file is not what it should be.
    """
    sequences = settings.sequences
    if len(settings.factors) > 1:
        sequences = (*sequences, settings.selection_sequence)
    tasks = [task for sequence in sequences for task in sequence.split("-")]
    check_data(settings.data, settings.drawn, tasks, settings.training)


def published_strength(method: str) -> float:
    """The strength that a method's authors, or others, used for the like; 1 if nobody did."""
    entry = METHODS[method]
    if not entry.published:
        return _UNPUBLISHED[method]
    name, unit = next(iter(entry.strength.items()))
    return float(entry.published[0].values[name]) / unit


def choose_strengths(
    settings: Settings, run_cells: RunCells[ObjectCell, Result]
) -> dict[str, Choice]:
    """Choose the strength of each of the experiment's methods that has one.

    :return: method → choice.
    """
    grids: dict[str, Sequence[float]] = {
        method: [factor * published_strength(method) for factor in settings.factors]
        for method in settings.methods
        if METHODS[method].plugin
    }
    if len(settings.factors) == 1:
        return {method: Choice(grid[0], at_edge=False) for method, grid in grids.items()}
    scores = validation_scores(
        grids,
        settings.extensions,
        lambda method, lam: [_selection_cell(settings, method, lam)],
        run_cells,
        lambda result: result.final_accuracy,
    )
    return {method: choose(of_method) for method, of_method in scores.items()}


def reported_cells(
    settings: Settings, choices: dict[str, Choice], sequence: str
) -> dict[tuple[str, int], ObjectCell]:
    """The runs that are reported of a sequence, by method and seed."""
    return {
        (method, seed): ObjectCell(
            sequence,
            method,
            choices[method].lam if method in choices else None,
            seed,
            0.0,
            settings.data,
            settings.drawn,
            settings.training,
        )
        for method in settings.methods
        for seed in settings.seeds
    }


def _for_alexnet(training: Training, model: str) -> Training:
    """AlexNet needs images of the size that it was made for."""
    return replace(
        training, model=model, resize=PAPER.resize, crop=PAPER.crop, augmented=PAPER.augmented
    )


def _selection_cell(settings: Settings, method: str, lam: float) -> ObjectCell:
    return ObjectCell(
        settings.selection_sequence,
        method,
        lam,
        settings.selection_seed,
        settings.selection_validation,
        settings.data,
        settings.drawn,
        settings.training,
    )
