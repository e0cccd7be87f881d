"""Split digits with a single head: what methods add to a replay memory of several sizes.

Classes that were never seen together must be told apart, without task labels. No penalty teaches
that; a memory of old images does. The question is what is gained beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from avalanche.models import SimpleMLP
from avalanche.training.plugins import ReplayPlugin
from matplotlib.figure import Figure
from torch.optim import SGD

from avalanche_mas.benchmarks import split_digits
from avalanche_mas.evaluation import plots
from avalanche_mas.plugins.registry import METHODS

from ..claims.verdict import judge
from ..digits.cell import DigitsCell, DigitsTraining
from ..report.formatter import listed, spread, wins
from ..report.runs import runs_table
from ..report.writer import Part, Report, Table
from ..runs.cell import RunCells
from ..training.selection import Choice, choose_lambdas
from ..training.stream import StreamResult, train_and_measure

_TRAINING = DigitsTraining(
    hidden_units=100, learning_rate=0.05, momentum=0.9, batch_size=32, epochs=5
)

DESCRIPTION = "split digits with one head: a replay memory, alone and beside MAS, EWC and LwF"

RESULT = StreamResult

ALONE = "finetuning"
"""The method that adds nothing."""

LEGEND = (
    "Mean ± standard deviation over the seeds ({seeds}). Memory: images kept of all classes "
    "together, drawn at random (Avalanche's ReplayPlugin). Final accuracy: mean over the "
    "experiences after the last one, on test images, without task labels. Gain: over the same "
    "memory alone, seed by seed; better or worse by a paired t-test, p < 0.05, each by itself. "
    "λ was chosen for every memory by itself, on validation images, with other seeds; * lies at "
    "the edge of the grid."
)


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
class ReplayCell(DigitsCell):
    """A cell with a replay memory.

    :param memory: images that it holds; 0: there is none.
    """

    memory: int

    @property
    def label(self) -> str:
        """A row for each memory and method."""
        return f"memory {self.memory}, {self.method}"


def run(
    settings: ClassIncrementalSettings, run_cells: RunCells[ReplayCell, StreamResult]
) -> ReplayReport:
    """Choose λ for every method and memory, then train and test with it."""
    rows = [(memory, method) for memory in settings.memories for method in settings.methods]
    choices = choose_lambdas(
        {row: settings.lambdas for row in rows if METHODS[row[1]].plugin},
        settings.grid_extensions,
        lambda row, lam: [
            replace(cell, validation=settings.selection_validation)
            for cell in _cells(settings, *row, lam, settings.selection_seeds)
        ],
        run_cells,
        lambda result: result.final_accuracy,
    )
    strengths = {row: choices[row].lam if row in choices else None for row in rows}
    cells = [c for row in rows for c in _cells(settings, *row, strengths[row], settings.seeds)]
    return ReplayReport(run_cells("test", cells), choices)


def run_cell(cell: ReplayCell) -> StreamResult:
    """Train and measure one cell."""
    model = partial(
        SimpleMLP,
        num_classes=10,
        input_size=64,
        hidden_size=cell.training.hidden_units,
        drop_rate=0.0,
    )
    method = METHODS[cell.method]
    return train_and_measure(
        split_digits(cell.n_experiences, cell.seed, cell.validation, one_head=True),
        "valid" if cell.validation else "test",
        model,
        partial(SGD, lr=cell.training.learning_rate, momentum=cell.training.momentum),
        method,
        cell.lam,
        cell.training,
        cell.seed,
        classifier="classifier",
        # outputs that were recorded for an experience's images are not those of the memory's
        options={"targets": "recomputed"} if method.records else None,
        further_plugins=[ReplayPlugin(mem_size=cell.memory)] if cell.memory else [],
    )


def _cells(
    settings: ClassIncrementalSettings,
    memory: int,
    method: str,
    lam: float | None,
    seeds: tuple[int, ...],
) -> list[ReplayCell]:
    given = "class-incremental", settings.experiences, method, lam
    return [ReplayCell(*given, seed, 0.0, settings.training, memory) for seed in seeds]


@dataclass(frozen=True)
class ReplayReport(Report):
    """What the runs measured, by memory and method.

    :param tests: the runs that are reported.
    :param choices: of λ, by memory and method.
    """

    tests: Mapping[ReplayCell, StreamResult]
    choices: Mapping[tuple[int, str], Choice]

    def parts(self, origin: str) -> Iterator[Part]:
        """A table of all rows, the legend, and what became of the question."""
        yield Table("", self.summary())
        yield LEGEND.format(seeds=listed(sorted({cell.seed for cell in self.tests})))
        yield [*self._verdicts(), origin]

    def data(self) -> pd.DataFrame:
        """One row for each run that is reported, in plain units."""
        runs = runs_table(self.tests)
        runs["method"] = [cell.method for cell in self.tests]
        runs.insert(0, "memory", [cell.memory for cell in self.tests])
        return runs

    def draw(self, folder: Path) -> list[Path]:
        """Final accuracy by size of the memory."""
        picture, runs = folder / f"{folder.name}.png", self.data()
        memories = sorted(runs["memory"].unique())
        with plots.style(font_size=10):
            figure = Figure(figsize=(6.4, 4.2))
            panel = figure.subplots()
            for method, look in plots.method_styles(list(self._methods)).items():
                finals = [100 * self._finals(memory, method) for memory in memories]
                panel.errorbar(
                    range(len(memories)),
                    [of_memory.mean() for of_memory in finals],
                    [of_memory.std(ddof=1) if len(of_memory) > 1 else 0 for of_memory in finals],
                    capsize=3,
                    label="replay alone" if method == ALONE else f"replay and {method}",
                    **look.line,
                )
            panel.set_xticks(range(len(memories)), [str(memory) for memory in memories])
            panel.set_xlabel("images in the replay memory")
            panel.set_ylabel("final accuracy (%)")
            panel.legend(frameon=False)
            figure.savefig(picture, dpi=150)
        return [picture]

    def summary(self) -> pd.DataFrame:
        """One row for each memory and method, as text ready to be read."""
        runs, rows = self.data(), []
        for memory, method in dict.fromkeys((cell.memory, cell.method) for cell in self.tests):
            group = runs[(runs["memory"] == memory) & (runs["method"] == method)]
            gains = self._gains(memory, method)
            verdict = None if method == ALONE else judge(gains, low=0.0)
            rows.append(
                {
                    "method": self._title(memory, method),
                    "memory": str(memory),
                    "final accuracy (%)": spread(group["final_accuracy_percent"]),
                    "gain (points)": "-" if verdict is None else spread(gains, "+.1f", ".1f"),
                    "better on": "-" if verdict is None else wins(gains, higher=True),
                    "p": "-" if verdict is None or verdict.p is None else f"{verdict.p:.2g}",
                    "verdict": "-" if verdict is None else verdict.compared,
                    "forgetting (points)": spread(group["forgetting_points"]),
                    "λ": str(self.choices.get((memory, method), "-")),
                }
            )
        return pd.DataFrame(rows)

    def _verdicts(self) -> Iterator[str]:
        """For each method a sentence on where it helps."""
        for method in self._methods[1:]:
            words: dict[str, list[int]] = {}
            for memory in dict.fromkeys(cell.memory for cell in self.tests):
                word = judge(self._gains(memory, method), low=0.0).compared
                words.setdefault(word, []).append(memory)
            found = "; ".join(f"{word} with {listed(where)}" for word, where in words.items())
            yield f"{method} beside a memory, against the memory alone: {found} images."

    @property
    def _methods(self) -> list[str]:
        return list(dict.fromkeys(cell.method for cell in self.tests))

    def _finals(self, memory: int, method: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        runs = [
            result.final_accuracy
            for cell, result in self.tests.items()
            if (cell.memory, cell.method) == (memory, method)
        ]
        return np.array(runs)

    def _gains(self, memory: int, method: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """By seed, in points."""
        return 100 * (self._finals(memory, method) - self._finals(memory, ALONE))

    @staticmethod
    def _title(memory: int, method: str) -> str:
        if not memory:
            return method
        return "replay" if method == ALONE else f"replay and {method}"
