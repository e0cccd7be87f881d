"""The paper's Figure 6: what each method keeps in memory, after each of eight tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from avalanche_mas.plugins.registry import METHODS

from ..cell import Result, RunCells
from ..objects.cell import ObjectCell
from ..objects.plots import draw_memory
from ..objects.settings import (
    EIGHT,
    Settings,
    choose_strengths,
    configure,
    prepare,
    reported_cells,
    tiny,
)
from ..objects.tables import Table, write_tables
from ..objects.training import run_cell

__all__ = ["Result", "configure", "prepare", "run_cell"]

DESCRIPTION = "Figure 6: memory of every method after each of eight object recognition tasks"
CELLS = "objects"
SETTINGS = Settings((EIGHT,), tuple(METHODS))  # figure5's, so that they share their runs
FAST = tiny(SETTINGS)

LEGEND = (
    "Bytes of the tensors that a method keeps beside the network after each task, in KB (1000 "
    "bytes): importances, solutions of old tasks, teachers, autoencoders; largest of the seeds "
    "({seeds}). Joint training keeps all images instead, which are not counted. The paper's figure "
    "has no numbers to compare with."
)


@dataclass(frozen=True)
class Outcome:
    """What there is to report: method → bytes after each task."""

    tasks: list[str]
    seeds: tuple[int, ...]
    memory: Mapping[str, NDArray[np.int64]]

    def write(self, folder: Path, console: Console, origin: str) -> list[Path]:
        """Print the table and remarks, and save them and the plot.

        :param folder: where the files go.
        :param console: where the table is printed.
        :param origin: what made the results.
        :return: the files.
        """
        rows = [
            {"method": method}
            | {
                f"{i + 1} {task}": f"{size / 1000:,.0f}"
                for i, (task, size) in enumerate(zip(self.tasks, sizes, strict=True))
            }
            for method, sizes in self.memory.items()
        ]
        files = write_tables(
            [Table("memory after each task (KB)", rows)],
            LEGEND.format(seeds=", ".join(map(str, self.seeds))),
            [*self.remarks(), origin],
            folder,
            console,
        )
        picture = folder / f"{folder.name}.png"
        sizes = {method: sizes.tolist() for method, sizes in self.memory.items()}
        draw_memory(sizes, self.tasks, picture)
        return [*files, picture]

    def remarks(self) -> list[str]:
        """Whose memory grows with the tasks, heads left out."""
        grown = {
            method: sizes[-1] / sizes[0]
            for method, sizes in self.memory.items()
            if sizes[0] and len(sizes) > 1
        }
        listed = ", ".join(f"{method} {ratio:.2f}" for method, ratio in grown.items())
        return [
            f"Memory after the last task, in units of that after the first: {listed}. Each task "
            "brings a head to the network, and with it some memory to every method that keeps "
            "something of all weights."
        ]


def run(settings: Settings, run_cells: RunCells[ObjectCell, Result]) -> Outcome:
    """Carry out the experiment, with figure 5's runs where they exist.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    choices = choose_strengths(settings, run_cells)
    cells = reported_cells(settings, choices, settings.sequences[0])
    results = run_cells("eight tasks", cells.values())
    memory = {
        method: np.max(
            [results[cells[method, seed]].memory_after_each for seed in settings.seeds], axis=0
        )
        for method in settings.methods
        if method != "joint"
    }
    return Outcome(settings.sequences[0].split("-"), settings.seeds, memory)
