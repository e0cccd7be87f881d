"""The paper's Figure 5: eight object recognition tasks one after the other, with every method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from avalanche_mas.plugins.registry import METHODS

from ..objects.accuracies import final_and_drop
from ..objects.cell import ObjectCell
from ..objects.experiment import EIGHT, ObjectSettings, Runs, run_sequences
from ..objects.training import run_cell
from ..report.formatter import listed, spread
from ..report.overview import overview
from ..report.writer import Part, Report, Table
from ..runs.cell import RunCells
from ..training.result import StreamResult

__all__ = ["run_cell"]

DESCRIPTION = "Figure 5: eight object recognition tasks, accuracy and drop of every method"
RESULT = StreamResult
# IMM is the mode, which the paper takes for the long sequence.
SETTINGS = ObjectSettings(
    (EIGHT,), tuple(method for method in METHODS if method != "meanIMM"), chosen_beside=True
)
FAST = SETTINGS.tiny()

PAPER_DROP = 0.49  # %, MAS, mean over the tasks
PAPER_LEAD = 2.0  # points of mean accuracy, MAS above SI

LEGEND = (
    "In %, mean ± standard deviation over the seeds ({seeds}), on test images after the last task. "
    "Drop: how much lower than when the task had been learnt; its mean is over all tasks but the "
    "last. Joint training sees all tasks at once, so it has none. MAS has its published λ, "
    "untuned; λ marked * lies at the edge of its grid."
)


@dataclass(frozen=True)
class Figure5Report(Report):
    """Accuracies and drops of each method on each task.

    :param settings: the hyper-parameters.
    :param outcome: the runs.
    """

    settings: ObjectSettings
    outcome: Runs[StreamResult]

    def parts(self, origin: str) -> Iterator[Part]:
        """The tables, the legend and the remarks."""
        yield Table("accuracy after the last task (%)", self._table(0))
        yield Table("drop since the task was learnt (points)", self._table(1))
        yield LEGEND.format(seeds=listed(self.settings.seeds))
        yield [*self.remarks(), origin]

    def draw(self, folder: Path) -> list[Path]:
        """A heat map of the accuracies, beside their mean against the mean drop."""
        picture = folder / f"{folder.name}.png"
        found = {row: [final_and_drop(run) for run in runs] for row, runs in self.tests.items()}
        accuracies = {row: np.array([final for final, _ in runs]) for row, runs in found.items()}
        drops = {row: np.array([_mean(d[:-1]) for _, d in runs]) for row, runs in found.items()}
        overview(accuracies, drops, self.tasks).savefig(picture, dpi=150)
        return [picture]

    @property
    def tests(self) -> dict[str, list[StreamResult]]:
        """By row, the runs of all seeds."""
        sequence = self.settings.sequences[0]
        return {label: found[sequence] for (label, _), found in self.outcome.found.items()}

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return self.settings.sequences[0].split("-")

    def means(self) -> dict[str, tuple[list[float], list[float]]]:
        """For each method the final accuracies and the drops of the tasks and their means, in %."""
        found = {}
        for method, tests in self.tests.items():
            runs = [final_and_drop(run) for run in tests]
            final, drop = (np.mean([run[i] for run in runs], axis=0) for i in (0, 1))
            found[method] = ([*final, _mean(final)], [*drop, _mean(drop[:-1])])
        return found

    def remarks(self) -> list[str]:
        """What is read off from the runs, beside the paper's numbers."""
        means = self.means()
        if not {"finetuning", "joint", "MAS", "SI"} <= means.keys():
            return self.outcome.left_out  # --methods has left one out
        final = {method: values[0][-1] for method, values in means.items()}
        drop = {method: values[1][-1] for method, values in means.items()}
        ratios = []
        pairs = zip(self.tests["MAS"], self.tests["finetuning"], strict=True)
        for seed, pair in zip(self.outcome.seeds[self.settings.sequences[0]], pairs, strict=True):
            mas, fine = (_mean(final_and_drop(run)[1][:-1]) for run in pair)
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
            *self.outcome.left_out,
        ]

    def _table(self, part: int) -> pd.DataFrame:
        rows = []
        for method, tests in self.tests.items():
            cells = np.array([final_and_drop(run)[part] for run in tests])
            counted = cells[:, :-1] if part else cells
            row = {"method": method, "λ": self.outcome.rows[method].shown}
            row |= {"mean": spread(counted.mean(axis=1))}  # first, as the table is wide
            rows.append(row | {task: spread(cells[:, i]) for i, task in enumerate(self.tasks)})
        return pd.DataFrame(rows)


def run(settings: ObjectSettings, run_cells: RunCells[ObjectCell, StreamResult]) -> Figure5Report:
    """Choose every λ, then train and test with it."""
    return Figure5Report(settings, run_sequences("eight tasks", settings, run_cells))


def _mean(values: ArrayLike) -> float:
    return float(np.asarray(values, dtype=np.float64).mean())
