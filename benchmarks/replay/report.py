"""A replay memory, alone and beside methods that protect weights: what is run, and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.templates import SupervisedTemplate
from matplotlib.figure import Figure

from avalanche_mas.evaluation import plots
from avalanche_mas.plugins.registry import METHODS

from ..claims.verdict import judge
from ..report.formatter import listed, spread, wins
from ..report.runs import runs_table
from ..report.writer import Part, Report, Table
from ..runs.cell import Cell, RunCells
from ..training.result import StreamResult
from ..training.selection import Choice, choose_lambdas

ALONE = "finetuning"
"""The method that adds nothing to a memory."""

LEGEND = (
    "Mean ± standard deviation over the seeds ({seeds}). Memory: images kept of all classes "
    "together, drawn at random (Avalanche's ReplayPlugin). Final accuracy: mean over the "
    "experiences after the last one, on test images, without task labels. Gain: over the same "
    "memory alone, seed by seed; better or worse by a paired t-test, p < 0.05, each by itself. "
    "λ was chosen for every memory by itself, on validation images, with other seeds; * lies at "
    "the edge of the grid."
)


class ReplayCell(Cell, Protocol):
    """A run with a replay memory."""

    @property
    def method(self) -> str:
        """What is beside the memory."""

    @property
    def memory(self) -> int:
        """Images that it holds; 0: there is none."""

    @property
    def seed(self) -> int:
        """Of all random numbers."""


ReplayCellT = TypeVar("ReplayCellT", bound=ReplayCell)


class Memory(ReplayPlugin):  # type: ignore[misc]
    """Avalanche's replay, but for the warning that it gives of itself after each experience."""

    def after_training_exp(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Draw what is kept."""
        self.storage_policy.post_adapt(strategy, strategy.experience)


class Question(Protocol):
    """The part of an experiment's settings that says what is compared."""

    @property
    def memories(self) -> tuple[int, ...]:
        """Sizes of the memory."""

    @property
    def methods(self) -> tuple[str, ...]:
        """What is beside it; the first is :data:`ALONE`."""


def row_of(cell: ReplayCell) -> str:
    """The row of a table that a run belongs to: one for each memory and method."""
    return f"memory {cell.memory}, {cell.method}"


def beside_memory(cell: ReplayCell) -> tuple[dict[str, Any], list[Memory]]:
    """Options of a method beside a replay memory, and the plugin with the memory, if there is one.

    Outputs that were recorded for an experience's images are not those of the memory's.
    """
    options = {"targets": "recomputed"} if METHODS[cell.method].records else {}
    return options, [Memory(mem_size=cell.memory)] if cell.memory else []


def compare_beside_replay(
    question: Question,
    grids: Mapping[str, Sequence[float]],
    extensions: int,
    make_cells: Callable[[int, str, float | None, bool], list[ReplayCellT]],
    run_cells: RunCells[ReplayCellT, StreamResult],
) -> ReplayReport:
    """Choose λ for every method and memory, then train and test with it.

    :param question: the memories and methods.
    :param grids: the λ to begin with, for each method that has one.
    :param extensions: how often a grid is widened at most.
    :param make_cells: the runs of a memory, a method and its λ: with True those that the λ is
        judged by, on validation images, with False those that are reported.
    :param run_cells: turns a title and cells into the cells' results.
    """
    rows = list(product(question.memories, question.methods))
    choices = choose_lambdas(
        {row: grids[row[1]] for row in rows if METHODS[row[1]].plugin},
        extensions,
        lambda row, lam: make_cells(*row, lam, True),
        run_cells,
        lambda result: result.final_accuracy,
    )
    strengths = {row: choices[row].lam if row in choices else None for row in rows}
    cells = [cell for row in rows for cell in make_cells(*row, strengths[row], False)]
    return ReplayReport(run_cells("test", cells), choices)


@dataclass(frozen=True)
class ReplayReport(Report):
    """What the runs measured, by memory and method.

    :param tests: the runs that are reported.
    :param choices: of λ, by memory and method.
    """

    tests: Mapping[Any, StreamResult]
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
