"""Split digits with a single head: what methods add to a replay memory of several sizes.

Classes that were never seen together must be told apart, without task labels. No penalty teaches
that; a memory of old images does. The question is what is gained beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from avalanche.models import SimpleMLP
from torch.optim import SGD

from avalanche_mas.benchmarks import split_digits
from avalanche_mas.plugins.registry import METHODS

from ..digits.cell import DigitsCell, DigitsTraining
from ..replay.report import (
    ALONE,
    ReplayReport,
    beside_memory,
    compare_beside_replay,
    row_of,
)
from ..runs.cell import RunCells
from ..training.result import StreamResult
from ..training.stream import train_and_measure

_TRAINING = DigitsTraining(
    hidden_units=100, learning_rate=0.05, momentum=0.9, batch_size=32, epochs=5
)

DESCRIPTION = "split digits with one head: a replay memory, alone and beside MAS, EWC and LwF"

RESULT = StreamResult


@dataclass(frozen=True)
class ClassIncrementalSettings:
    """Every hyper-parameter of this experiment. Each result file holds a copy."""

    training: DigitsTraining = _TRAINING
    experiences: int = 5
    memories: tuple[int, ...] = (0, 20, 50, 100, 200)
    methods: tuple[str, ...] = (ALONE, "MAS", "EWC", "LwF")
    seeds: tuple[int, ...] = tuple(range(10))

    # λ is chosen for each method and memory as in the experiment `digits`.
    lambdas: tuple[float, ...] = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4)
    grid_extensions: int = 3  # decades added at most, while the best λ lies at the grid's edge
    selection_seeds: tuple[int, ...] = (100, 101, 102)
    selection_validation: float = 0.2


SETTINGS = ClassIncrementalSettings()
FAST = ClassIncrementalSettings(  # to see that all parts work; its numbers mean nothing
    training=replace(_TRAINING, epochs=1),
    memories=(0, 20),
    seeds=(0,),
    lambdas=(1e-1, 1e1),
    grid_extensions=0,
    selection_seeds=(100,),
)


@dataclass(frozen=True)
class ReplayDigitsCell(DigitsCell):
    """A cell with a replay memory.

    :param memory: images that it holds; 0: there is none.
    """

    memory: int

    @property
    def label(self) -> str:
        """A row for each memory and method."""
        return row_of(self)


def run(
    settings: ClassIncrementalSettings, run_cells: RunCells[ReplayDigitsCell, StreamResult]
) -> ReplayReport:
    """Choose λ for every method and memory, then train and test with it."""
    return compare_beside_replay(
        settings,
        dict.fromkeys(settings.methods, settings.lambdas),
        settings.grid_extensions,
        partial(_cells, settings),
        run_cells,
    )


def run_cell(cell: ReplayDigitsCell) -> StreamResult:
    """Train and measure one cell."""
    model = partial(
        SimpleMLP,
        num_classes=10,
        input_size=64,
        hidden_size=cell.training.hidden_units,
        drop_rate=0.0,
    )
    options, memory = beside_memory(cell)
    return train_and_measure(
        split_digits(cell.n_experiences, cell.seed, cell.validation, one_head=True),
        "valid" if cell.validation else "test",
        model,
        partial(SGD, lr=cell.training.learning_rate, momentum=cell.training.momentum),
        METHODS[cell.method],
        cell.lam,
        cell.training,
        cell.seed,
        classifier="classifier",
        options=options,
        further_plugins=memory,
    )


def _cells(
    settings: ClassIncrementalSettings,
    memory: int,
    method: str,
    lam: float | None,
    selection: bool,
) -> list[ReplayDigitsCell]:
    seeds = settings.selection_seeds if selection else settings.seeds
    validation = settings.selection_validation if selection else 0.0
    given = "class-incremental", settings.experiences, method, lam
    return [ReplayDigitsCell(*given, seed, validation, settings.training, memory) for seed in seeds]
