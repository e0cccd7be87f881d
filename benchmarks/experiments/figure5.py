"""The paper's Figure 5: eight object recognition tasks one after the other, with every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from avalanche_mas.plugins.registry import METHODS

from ..cell import Result, RunCells
from ..objects.cell import ObjectCell
from ..objects.plots import draw_bars
from ..objects.settings import (
    EIGHT,
    Settings,
    choose_strengths,
    configure,
    prepare,
    reported_cells,
    tiny,
)
from ..objects.tables import Table, final_and_drop, mean_of, spread, write_tables
from ..objects.training import run_cell
from ..selection import Choice

__all__ = ["Result", "configure", "prepare", "run_cell"]

DESCRIPTION = "Figure 5: eight object recognition tasks, accuracy and drop of every method"
CELLS = "objects"
SETTINGS = Settings((EIGHT,), tuple(METHODS))
FAST = tiny(SETTINGS)

PAPER_DROP = 0.49  # %, MAS, mean over the tasks
PAPER_LEAD = 2.0  # points of mean accuracy, MAS above SI

LEGEND = (
    "In %, mean ± standard deviation over the seeds ({seeds}), on test images after the last task. "
    "Drop: how much lower than when the task had been learnt; its mean is over all tasks but the "
    "last. Joint training sees all tasks at once, so it has none. λ marked * lies at the edge of "
    "its grid."
)


@dataclass(frozen=True)
class Outcome:
    """What there is to report."""

    settings: Settings
    tests: Mapping[tuple[str, int], Result]  # by method and seed
    choices: Mapping[str, Choice]

    def write(self, folder: Path, console: Console, origin: str) -> list[Path]:
        """Print the tables and remarks, and save them and the plot.

        :param folder: where the files go.
        :param console: where the tables are printed.
        :param origin: what made the results.
        :return: the files.
        """
        final, drop = self._table(0), self._table(1)
        files = write_tables(
            [
                Table("accuracy after the last task (%)", final),
                Table("drop since the task was learnt (points)", drop),
            ],
            LEGEND.format(seeds=", ".join(map(str, self.settings.seeds))),
            [*self.remarks(), origin],
            folder,
            console,
        )
        picture = folder / f"{folder.name}.png"
        draw_bars(self.means(), [*self.tasks, "mean"], picture)
        return [*files, picture]

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return self.settings.sequences[0].split("-")

    def means(self) -> dict[str, tuple[list[float], list[float]]]:
        """For each method the final accuracies and the drops of the tasks and their means, in %."""
        found = {}
        for method in self.settings.methods:
            runs = [final_and_drop(self.tests[method, seed]) for seed in self.settings.seeds]
            final, drop = (np.mean([run[i] for run in runs], axis=0) for i in (0, 1))
            found[method] = ([*final, mean_of(final)], [*drop, mean_of(drop[:-1])])
        return found

    def remarks(self) -> list[str]:
        """What is read off from the runs, beside the paper's numbers."""
        means = self.means()
        final = {method: values[0][-1] for method, values in means.items()}
        drop = {method: values[1][-1] for method, values in means.items()}
        ratios = []
        for seed in self.settings.seeds:
            mas, fine = (
                mean_of(final_and_drop(self.tests[method, seed])[1][:-1])
                for method in ("MAS", "finetuning")
            )
            ratios.append(f"{mas:.1f} of {fine:.1f} points (seed {seed})")
        lead = final["MAS"] - final["SI"]
        return [
            f"MAS forgets {drop['MAS']:.2f} points on average; in the paper, on the real images "
            f"with a pretrained AlexNet, {PAPER_DROP}: a difference of "
            f"{drop['MAS'] - PAPER_DROP:+.2f}.",
            f"MAS ends {lead:+.1f} points of mean accuracy above SI; in the paper "
            f"{PAPER_LEAD:+.1f}: a difference of {lead - PAPER_LEAD:+.1f}.",
            f"Mean drop of MAS, and of finetuning: {'; '.join(ratios)}.",
            f"Are these real tasks? Finetuning forgets {drop['finetuning']:.1f} points on average, "
            f"and joint training reaches {final['joint']:.1f} %.",
        ]

    def _table(self, part: int) -> list[dict[str, str]]:
        rows = []
        for method in self.settings.methods:
            choice = self.choices.get(method)
            runs = [final_and_drop(self.tests[method, seed])[part] for seed in self.settings.seeds]
            cells = np.array(runs)
            row = {
                "method": method,
                "λ": f"{choice.lam:g}{'*' if choice.at_edge else ''}" if choice else "-",
            }
            row |= {task: spread(cells[:, i]) for i, task in enumerate(self.tasks)}
            counted = cells[:, :-1] if part else cells
            row["mean"] = spread(counted.mean(axis=1))
            rows.append(row)
        return rows


def run(settings: Settings, run_cells: RunCells[ObjectCell, Result]) -> Outcome:
    """Carry out the experiment: choose every λ, then train and test with it.

    :param settings: the hyper-parameters.
    :param run_cells: turns a title and cells into the cells' results.
    :return: what there is to report.
    """
    choices = choose_strengths(settings, run_cells)
    cells = reported_cells(settings, choices, settings.sequences[0])
    results = run_cells("eight tasks", cells.values())
    return Outcome(settings, {key: results[cell] for key, cell in cells.items()}, choices)
