"""The penalty's two steps, proximal and gradient, under several optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import torch
from avalanche.models import SimpleMLP

from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.plugins.registry import METHODS

from ..digits.cell import DigitsCell, DigitsTraining
from ..digits.remarks import accuracy_gap, first_experience_kept
from ..digits.report import DigitsReport
from ..report.formatter import listed
from ..runs.cell import RunCells
from ..training.result import StreamResult
from ..training.selection import choose_lambdas
from ..training.stream import train_and_measure

DESCRIPTION = "MAS on permuted digits by proximal and by gradient steps, for several optimizers"

RESULT = StreamResult

_STEPS = {
    step: replace(METHODS["MAS"], options={"step": step}) for step in ("proximal", "gradient")
}


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of ``torch.optim``; what is not named here is at its default."""

    name: str
    learning_rate: float
    momentum: float = 0.0  # SGD's
    steps: tuple[str, ...] = tuple(_STEPS)


@dataclass(frozen=True)
class StepsSettings:
    """Every hyper-parameter of this experiment. Each result file holds a copy."""

    experiences: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    hidden_units: int = 100
    batch_size: int = 32
    epochs: int = 8
    optimizers: tuple[Optimizer, ...] = (
        Optimizer("SGD", 0.05, momentum=0.9),
        Optimizer("Adam", 1e-3),
        Optimizer("Adam", 1e-2),
        Optimizer("AdamW", 1e-3),
        Optimizer("RMSprop", 1e-3, steps=("gradient",)),  # no proximal step is known for it
        Optimizer("Adagrad", 1e-2, steps=("gradient",)),  # nor for it
    )

    # λ is chosen for each row as in the experiment `digits`.
    lambdas: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3)
    grid_extensions: int = 3  # decades added at most, while the best λ lies at the grid's edge
    selection_seeds: tuple[int, ...] = (100,)
    selection_validation: float = 0.2

    # With an enormous λ nothing that Ω marks may move, and nothing may become NaN. The accuracy on
    # the first experience can fall all the same: a ReLU that none of its images reaches has Ω = 0,
    # and what wakes it up later changes the answers to those images too.
    control_lambda: float = 1e8
    control_tolerance: float = 0.05  # accuracy that may be lost and still count as kept


SETTINGS = StepsSettings()
FAST = StepsSettings(  # to see that all parts work; its numbers mean nothing
    experiences=2,
    seeds=(0,),
    epochs=1,
    optimizers=(SETTINGS.optimizers[0], SETTINGS.optimizers[2], SETTINGS.optimizers[4]),
    lambdas=(1e-1, 1e1),
    grid_extensions=0,
)
_COLORS = ("#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#009E73", "#000000")
_LINES = {"proximal": "-", "gradient": "--"}


@dataclass(frozen=True)
class OptimizerCell(DigitsCell):
    """A cell whose optimizer varies, and whose method is a step."""

    optimizer: str

    @property
    def label(self) -> str:
        """A row for each optimizer, learning rate and step."""
        return f"{self.optimizer}-{self.training.learning_rate:g}-{self.method}"


def run(settings: StepsSettings, run_cells: RunCells[DigitsCell, StreamResult]) -> DigitsReport:
    """Choose every λ, then train and test with it, and with an enormous one."""
    rows = [(optimizer, step) for optimizer in settings.optimizers for step in optimizer.steps]
    choices = choose_lambdas(
        dict.fromkeys(rows, settings.lambdas),
        settings.grid_extensions,
        lambda row, lam: [
            replace(cell, validation=settings.selection_validation)
            for cell in _cells(settings, *row, lam, settings.selection_seeds)
        ],
        run_cells,
        lambda result: result.final_accuracy,
    )
    chosen = {row: _cells(settings, *row, choices[row].lam, settings.seeds) for row in rows}
    control = {row: _cells(settings, *row, settings.control_lambda, settings.seeds) for row in rows}
    tests = run_cells("test", [cell for cells in chosen.values() for cell in cells])
    controls = run_cells("control", [cell for cells in control.values() for cell in cells])
    pairs: list[tuple[Mapping[DigitsCell, StreamResult], ...]] = [
        tuple({c: tests[c] for c in chosen[optimizer, step]} for step in _STEPS)
        for optimizer in settings.optimizers
        if optimizer.steps == tuple(_STEPS)
    ]
    means = {row: 100 * fmean(choices[row].scores[lam] for lam in settings.lambdas) for row in rows}
    grid = listed(f"{chosen[row][0].label} {mean:.1f}" for row, mean in means.items())
    remarks = [
        *accuracy_gap(pairs),
        f"Accuracy on validation images, mean over λ = {min(settings.lambdas):g} to "
        f"{max(settings.lambdas):g} (%): {grid}.",
        *first_experience_kept(controls, settings.control_tolerance),
    ]
    return DigitsReport(
        tests,
        {("permuted", chosen[row][0].label): choice for row, choice in choices.items()},
        remarks,
        {
            chosen[optimizer, step][0].label: {"color": color, "linestyle": _LINES[step]}
            for optimizer, color in zip(settings.optimizers, _COLORS, strict=False)
            for step in optimizer.steps
        },
    )


def run_cell(cell: OptimizerCell) -> StreamResult:
    """Train and measure one cell."""
    momentum = {"momentum": cell.training.momentum} if cell.training.momentum else {}
    return train_and_measure(
        permuted_digits(cell.n_experiences, cell.seed, cell.validation),
        "valid" if cell.validation else "test",
        partial(
            SimpleMLP,
            num_classes=10,
            input_size=64,
            hidden_size=cell.training.hidden_units,
            drop_rate=0.0,
        ),
        partial(getattr(torch.optim, cell.optimizer), lr=cell.training.learning_rate, **momentum),
        _STEPS[cell.method],
        cell.lam,
        cell.training,
        cell.seed,
    )


def _cells(
    settings: StepsSettings, optimizer: Optimizer, step: str, lam: float, seeds: tuple[int, ...]
) -> list[OptimizerCell]:
    training = DigitsTraining(
        settings.hidden_units,
        optimizer.learning_rate,
        optimizer.momentum,
        settings.batch_size,
        settings.epochs,
    )
    return [
        OptimizerCell(
            "permuted", settings.experiences, step, lam, seed, 0.0, training, optimizer.name
        )
        for seed in seeds
    ]
