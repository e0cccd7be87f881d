"""The paper's Figure 6: the most that each method holds in memory, at each of eight tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from avalanche_mas.evaluation import plots

from ..objects.cell import ObjectCell
from ..objects.experiment import ObjectSettings, run_sequences
from ..objects.training import run_cell
from ..report.formatter import listed
from ..report.writer import Part, Report, Table
from ..runs.cell import RunCells
from ..training.result import StreamResult
from .figure5 import FAST, SETTINGS  # so that they share their runs

__all__ = ["FAST", "SETTINGS", "run_cell"]

DESCRIPTION = "Figure 6: memory of every method at each of eight object recognition tasks"
RESULT = StreamResult

LEGEND = (
    "Bytes of the tensors that a method holds beside the network while it learns each task, in KB "
    "(1000 bytes), at the largest: importances, solutions of old tasks, recorded outputs, "
    "teachers, autoencoders; largest of the seeds ({seeds}). Joint training keeps all images "
    "instead, which are not counted. The paper's figure has no numbers to compare with."
)


@dataclass(frozen=True)
class Figure6Report(Report):
    """Bytes at each task, by method."""

    tasks: list[str]
    seeds: tuple[int, ...]
    memory: Mapping[str, NDArray[np.int64]]

    def parts(self, origin: str) -> Iterator[Part]:
        """The table, the legend and the remarks."""
        rows = [
            {"method": method}
            | {
                f"{i + 1} {task}": f"{size / 1000:,.0f}"
                for i, (task, size) in enumerate(zip(self.tasks, sizes, strict=True))
            }
            for method, sizes in self.memory.items()
        ]
        yield Table("memory while each task is learnt (KB)", pd.DataFrame(rows))
        yield LEGEND.format(seeds=listed(self.seeds))
        yield [*self.remarks(), origin]

    def draw(self, folder: Path) -> list[Path]:
        """A line for each method over the tasks."""
        picture = folder / f"{folder.name}.png"
        sizes = {method: sizes.tolist() for method, sizes in self.memory.items()}
        with plots.style(font_size=11):
            figure = Figure(figsize=(10, 6))
            plots.plot_memory(sizes, self.tasks, ax=figure.subplots())
            figure.savefig(picture, dpi=130)
        return [picture]

    def remarks(self) -> list[str]:
        """Whose memory grows with the tasks, heads left out."""
        grown = {
            method: sizes[-1] / sizes[0]
            for method, sizes in self.memory.items()
            if sizes[0] and len(sizes) > 1
        }
        listed = ", ".join(f"{method} {ratio:.2f}" for method, ratio in grown.items())
        return [
            f"Memory at the last task, in units of that at the first: {listed}. Each task "
            "brings a head to the network, and with it some memory to every method that keeps "
            "something of all weights."
        ]


def run(settings: ObjectSettings, run_cells: RunCells[ObjectCell, StreamResult]) -> Figure6Report:
    """What is held in figure 5's runs."""
    sequence = settings.sequences[0]
    outcome = run_sequences("eight tasks", settings, run_cells)
    memory = {
        label: np.max([run.memory_while_learning for run in found[sequence]], axis=0)
        for (label, _), found in outcome.found.items()
        if label != "joint"
    }
    return Figure6Report(sequence.split("-"), settings.seeds, memory)
