"""Permuted and split digits: real handwriting, in minutes on a laptop.

How the network is trained was settled by the time it takes, by finetuning, which had to forget
more than 20 points on permuted digits, and by joint training, which had to reach 90 % on both
benchmarks; not by what any other method made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from avalanche.models import SimpleMLP, as_multitask
from avalanche.training.supervised import Naive
from torch import nn
from torch.optim import SGD

from avalanche_mas.benchmarks import permuted_digits, split_digits
from avalanche_mas.plugins.registry import METHODS

from ..digits.cell import DigitsCell, DigitsTraining
from ..digits.chosen import chosen_lambdas
from ..digits.framework import FrameworkCell, FrameworkReport
from ..digits.framework import remarks as framework_remarks
from ..digits.remarks import forgets_less, lambda_effect
from ..digits.report import DigitsReport
from ..runs.cell import RunCells
from ..training.framework import Framework, Learner
from ..training.result import StreamResult
from ..training.selection import Choice, choose_lambdas, published_strength
from ..training.stream import train_and_measure

DESCRIPTION = "permuted digits (one head) and split digits (one head per task)"

RESULT = StreamResult

_TRAINING = DigitsTraining(
    hidden_units=100, learning_rate=0.05, momentum=0.9, batch_size=32, epochs=5
)
# For a few minutes; all of them take four times as long.
_METHODS = (
    "finetuning",
    "joint",
    "MAS",
    "LocalMAS",
    "OnlineEWC",
    "SI",
    "AvalancheMAS",
)
_FRAMEWORK = Framework(learning_rates=(0.1, 0.05, 0.02), strength=1e4, max_trials=21)


@dataclass(frozen=True)
class DigitsSettings:
    """Every hyper-parameter of this experiment. Each result file holds a copy."""

    training: DigitsTraining = _TRAINING
    permuted_experiences: int = 10
    split_experiences: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = _METHODS

    # λ is that of the published table, which was chosen by the grid; or else, by ``select``:
    select: str = "table"

    # By the grid λ is chosen for each method and benchmark by the mean final accuracy on validation
    # images, a part of the training images, with seeds that are not among those reported. The
    # reported runs train on all training images and are scored on the test images, which the
    # choice never sees. The choice is made on whole streams: on the first three experiences alone
    # it favours values with which Avalanche's EWC diverges later, as its penalty grows with each.
    lambdas: tuple[float, ...] = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4)  # the same for all
    grid_extensions: int = 3  # decades added at most, while the best λ lies at the grid's edge
    permuted_selection_seeds: tuple[int, ...] = (100,)
    split_selection_seeds: tuple[int, ...] = (100, 101, 102)  # short runs, scores close together
    selection_validation: float = 0.2

    # By the framework λ is found for each experience on its own images, with the seeds that are
    # reported, from the largest λ of the grid above down to its smallest if need be. Or it is the
    # one that the method's authors published.
    framework: Framework = _FRAMEWORK

    # One run with an enormous λ, to see whether λ does anything at all.
    control_method: str = "AvalancheSI"
    control_lambda: float = 1e8

    def configure(self, select: str | None = None) -> DigitsSettings:
        """Choose λ by ``table``, ``grid``, ``framework`` or ``published``."""
        return replace(self, select=select or self.select)


SETTINGS = DigitsSettings()
FAST = DigitsSettings(  # to see that all parts work; its numbers mean nothing
    training=replace(_TRAINING, epochs=2),
    permuted_experiences=2,
    split_experiences=2,
    seeds=(0,),
    methods=tuple(METHODS),
    lambdas=(1e-1, 1e1),
    grid_extensions=0,
    split_selection_seeds=(100,),
    framework=Framework(learning_rates=(0.05,), strength=1e4, max_trials=2, decay=1e-4),
)
_SAID = {
    "table": "λ are those of benchmarks/results/digits/table.csv; --select grid chooses them anew.",
    "grid": "λ were chosen on validation images, with other seeds.",
    "published": "λ are those that the methods' authors, or others, published.",
}
_BENCHMARKS = {"permuted": permuted_digits, "split": split_digits}


def run(settings: DigitsSettings, run_cells: RunCells[DigitsCell, StreamResult]) -> DigitsReport:
    """Choose every λ, then train and test with it."""
    if settings.select == "framework":
        return _run_framework(settings, run_cells)
    choices = _choose_lambdas(settings, run_cells)
    cells = []
    for benchmark in _BENCHMARKS:
        for method in settings.methods:
            choice = choices.get((benchmark, method))
            lam = choice.lam if choice else None
            cells += [_test_cell(settings, benchmark, method, lam, s) for s in settings.seeds]
    tests = run_cells("test", cells)
    remarks = [
        _SAID[settings.select],
        *_try_control(settings, run_cells, tests),
        *forgets_less(tests, "MAS", "finetuning"),
    ]
    return DigitsReport(tests, choices, remarks)


def run_cell(cell: DigitsCell) -> StreamResult:
    """Train and measure one cell."""
    framework = cell.framework if isinstance(cell, FrameworkCell) else None
    multi_head = cell.benchmark == "split"

    def make_model() -> nn.Module:
        model: nn.Module = SimpleMLP(
            num_classes=10 // cell.n_experiences if multi_head else 10,
            input_size=64,
            hidden_size=cell.training.hidden_units,
            drop_rate=0.0,
        )
        if multi_head:
            model = as_multitask(model, "classifier")
        return model

    method, lam = METHODS[cell.method], cell.lam
    held_out = framework.held_out if framework else cell.validation
    benchmark = _BENCHMARKS[cell.benchmark](cell.n_experiences, cell.seed, held_out)
    learner = Learner(method, framework, benchmark.valid_stream) if framework else None
    if framework and method.plugin:
        lam = framework.strength
    result = train_and_measure(
        benchmark,
        "valid" if cell.validation else "test",
        make_model,
        partial(SGD, lr=cell.training.learning_rate, momentum=cell.training.momentum),
        method,
        lam,
        cell.training,
        cell.seed,
        classifier="classifier",
        learn=learner,
    )
    return replace(result, found=learner.found) if learner else result


def _run_framework(
    settings: DigitsSettings, run_cells: RunCells[DigitsCell, StreamResult]
) -> DigitsReport:
    """Train and test with what the framework finds on the way."""
    cells: list[DigitsCell] = []
    for benchmark in _BENCHMARKS:
        for method in settings.methods:
            for seed in settings.seeds:
                cell = _test_cell(settings, benchmark, method, None, seed)
                # Joint training learns everything at once: there is nothing to go along.
                joint = METHODS[method].strategy is not Naive
                cells.append(
                    cell if joint else FrameworkCell(**vars(cell), framework=settings.framework)
                )
    tests = run_cells("test", cells)
    said = [
        *framework_remarks(settings.framework, tests),
        *forgets_less(tests, "MAS", "finetuning"),
    ]
    return FrameworkReport(tests, {}, said)


def _choose_lambdas(
    settings: DigitsSettings, run_cells: RunCells[DigitsCell, StreamResult]
) -> dict[tuple[str, str], Choice]:
    """Choose λ for each (benchmark, method) that has one, or take the one that there is."""
    keys = [(b, m) for b in _BENCHMARKS for m in settings.methods if METHODS[m].plugin]
    if settings.select == "table":
        table = chosen_lambdas()
        return {key: Choice(table[key]) for key in keys}
    published = settings.select == "published"
    return choose_lambdas(
        {key: [published_strength(key[1])] if published else settings.lambdas for key in keys},
        settings.grid_extensions,
        lambda key, lam: _selection_cells(settings, *key, lam),
        run_cells,
        lambda result: result.final_accuracy,
    )


def _try_control(
    settings: DigitsSettings,
    run_cells: RunCells[DigitsCell, StreamResult],
    tests: Mapping[DigitsCell, StreamResult],
) -> list[str]:
    """Say whether the control method's λ changes the weights that a seed ends with."""
    method = settings.control_method
    if not {method, "finetuning"} <= set(settings.methods):
        return []
    runs = {(c.benchmark, c.method): c for c in tests if c.seed == settings.seeds[0]}
    trials = [
        [
            runs[b, method],
            replace(runs[b, method], lam=settings.control_lambda),
            runs[b, "finetuning"],
        ]
        for b in _BENCHMARKS
    ]
    results = run_cells("control", chain(*trials))
    return [lambda_effect(results, *trial) for trial in trials]


def _test_cell(
    settings: DigitsSettings, benchmark: str, method: str, lam: float | None, seed: int
) -> DigitsCell:
    n = settings.permuted_experiences if benchmark == "permuted" else settings.split_experiences
    return DigitsCell(benchmark, n, method, lam, seed, 0.0, settings.training)


def _selection_cells(
    settings: DigitsSettings, benchmark: str, method: str, lam: float | None
) -> list[DigitsCell]:
    seeds = {
        "permuted": settings.permuted_selection_seeds,
        "split": settings.split_selection_seeds,
    }[benchmark]
    return [
        replace(
            _test_cell(settings, benchmark, method, lam, seed),
            validation=settings.selection_validation,
        )
        for seed in seeds
    ]
