"""The eight object recognition tasks with a single head: what methods add to a replay memory.

As :mod:`.class_incremental`, in the paper's regime: the network begins with ImageNet's weights, and
the classes of all tasks share one head, without task labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..objects.cell import ObjectCell
from ..objects.experiment import EIGHT, PRETRAINED, ObjectSettings
from ..objects.images import load
from ..objects.training import train
from ..replay.report import (
    ALONE,
    ReplayReport,
    beside_memory,
    compare_beside_replay,
    row_of,
)
from ..runs.cell import RunCells
from ..training.result import StreamResult

DESCRIPTION = "the eight tasks with one head: a replay memory, alone and beside MAS, EWC and LwF"

RESULT = StreamResult


@dataclass(frozen=True)
class ReplaySettings(ObjectSettings):
    """Every hyper-parameter of this experiment. Each result file holds a copy.

    λ of MAS, too, is chosen: its published one is for tasks that have their own heads.
    """

    memories: tuple[int, ...] = (40, 160)  # with about 3,000 training images of 73 classes
    fisher: str = "sampled"  # of EWC: the expectation would take a backward pass for each class


SETTINGS = ReplaySettings(
    (EIGHT,),
    (ALONE, "MAS", "EWC", "LwF"),
    training=replace(PRETRAINED, epochs=3),  # the memory's images double those of a step
    untuned=(),
)
FAST = replace(SETTINGS.tiny(), memories=(10,))


@dataclass(frozen=True)
class ReplayObjectCell(ObjectCell):
    """A cell with a replay memory.

    :param memory: images that it holds; 0: there is none.
    :param fisher: of EWC: over which labels the Fisher information is taken.
    """

    memory: int = 0
    fisher: str | None = None

    @property
    def label(self) -> str:
        """A row for each memory and method."""
        return row_of(self)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the method's plugin besides its strength."""
        return {**super().options, **({"fisher": self.fisher} if self.fisher else {})}


def run(
    settings: ReplaySettings, run_cells: RunCells[ReplayObjectCell, StreamResult]
) -> ReplayReport:
    """Choose λ for every method and memory, then train and test with it."""
    grids = {method: settings.grid(method) for method in settings.methods}
    return compare_beside_replay(
        settings, grids, settings.extensions, partial(_cells, settings), run_cells
    )


def run_cell(cell: ReplayObjectCell) -> StreamResult:
    """Train and measure one cell."""
    benchmark = load(cell, one_head=True)
    classes = benchmark.train_stream[-1].classes_seen_so_far
    options, memory = beside_memory(cell)
    return train(cell, benchmark, {**cell.options, **options}, memory, classes=1 + max(classes))


def _cells(
    settings: ReplaySettings, memory: int, method: str, lam: float | None, selection: bool
) -> list[ReplayObjectCell]:
    (sequence,) = settings.sequences
    if selection:
        cell = settings.cell(settings.selection_sequence, method, lam, settings.selection_seed)
        cells = [replace(cell, validation=settings.selection_validation)]
    else:
        cells = [settings.cell(sequence, method, lam, seed) for seed in settings.seeds]
    own = {"memory": memory, "fisher": settings.fisher if method == "EWC" else None}
    return [ReplayObjectCell(**{**vars(cell), **own}) for cell in cells]
