"""The paper's Figure 7: what matters later is a few facts of the first task, those of sports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_mas.evaluation import plots

from ..facts.cell import PAPER_LAMBDA, SUBSET, FactCell, FactResult, Row
from ..facts.experiment import FactSettings, run_rows
from ..facts.report import FactReport, Panel, Paper, end_panel, first_task_remarks
from ..facts.training import run_cell
from ..report.formatter import listed
from ..runs.cell import RunCells

__all__ = ["run_cell"]

DESCRIPTION = "Figure 7: sports facts, as the facts of other clusters are learned; adaptation"
RESULT = FactResult

_ADAPTED = "MAS, sports only"  # Ω of their training pictures, measured anew after every task
_SUMMED = "MAS, sports only, summed"
ROWS = (
    Row("finetuning", "finetuning"),
    Row("SI", "SI"),
    Row("MAS", "MAS", lam=PAPER_LAMBDA),
    Row("MAS, λ chosen", "MAS"),
    Row(_ADAPTED, "MAS", SUBSET, PAPER_LAMBDA, anew=True),
    Row(_SUMMED, "MAS", SUBSET, PAPER_LAMBDA),
    Row("joint", "joint"),
)
# Of the sports facts after the last task; for the first two the text says "close to". It is a
# picture without numbers otherwise; MAS that is not adapted is not in it.
PAPER_END = {"finetuning": 0.20, "SI": 0.20, _ADAPTED: 0.50}

# Clusters are less alike than random tasks, so what protects from those is too weak here.
SETTINGS = FactSettings("clusters-4", ROWS, selection_split="clusters-4")
FAST = SETTINGS.tiny()


@dataclass(frozen=True)
class Figure7Report(FactReport):
    """Tables, and the sports facts' line for each method."""

    def draw(self, folder: Path) -> list[Path]:
        """The figure, from the first table."""
        picture = folder / f"{folder.name}.png"
        with plots.style(font_size=10):
            figure = Figure(figsize=(6.4, 4.4))
            _fill(plots.tidy(figure.subplots()), self.panels[0])
            figure.savefig(picture, dpi=150)
        return [picture]


def run(settings: FactSettings, run_cells: RunCells[FactCell, FactResult]) -> Figure7Report:
    """Choose λ, then train and test with it."""
    findings = run_rows(settings, run_cells)
    title = "Four clusters of facts, after the last; the first has the sports facts"
    remarks = [*_remarks(findings.tests), *first_task_remarks(findings.tests, "finetuning")]
    panels = (_subset_panel(findings.tests), end_panel(findings, title, {}))
    return Figure7Report(findings, panels, tuple(remarks))


def _subset_panel(tests: Mapping[FactCell, FactResult]) -> Panel:
    n_tasks = max(len(result.subset) for result in tests.values())
    values: dict[str, list[list[float]]] = {}
    for cell, result in tests.items():  # joint training has seen all tasks, which is after the last
        unknown = [float("nan")] * (n_tasks - len(result.subset))
        values.setdefault(cell.label, []).append([*unknown, *result.subset])
    before: list[float | None] = [None] * (n_tasks - 1)
    paper: Paper = {label: [*before, end] for label, end in PAPER_END.items()}
    columns = tuple(f"after T{i + 1}" for i in range(n_tasks))
    return Panel("Figure 7: sports facts among their own pictures", columns, values, paper)


def _remarks(tests: Mapping[FactCell, FactResult]) -> list[str]:
    """Compare the adapted network with the other, seed by seed."""
    ends = {(cell.label, cell.seed): result.subset[-1] for cell, result in tests.items()}
    sentences = []
    for other in ("MAS", "finetuning", "SI"):
        gains = {
            seed: end - ends[other, seed]
            for (label, seed), end in ends.items()
            if label == _ADAPTED
        }
        by_seed = listed(f"{gain:+.3f} (seed {seed})" for seed, gain in gains.items())
        sentences.append(
            f"Sports facts after the last task, {_ADAPTED} minus {other}: {by_seed}; better on "
            f"{sum(gain > 0 for gain in gains.values())} of {len(gains)} seeds."
        )
    silent = {
        label: [result.silent for cell, result in tests.items() if cell.label == label]
        for label in (_ADAPTED, _SUMMED)
    }
    shares = listed(
        f"{100 * fmean(run[0] for run in runs):.0f} % after the first task and "
        f"{100 * fmean(run[-1] for run in runs):.0f} % in the end ({label})"
        for label, runs in silent.items()
    )
    return [
        *sentences,
        f"Units that no training picture of the sports facts makes positive: {shares}. Ω of what "
        "leads to them is 0, so later tasks may change it freely.",
    ]


def _fill(axes: Axes, panel: Panel) -> None:
    steps = np.arange(1, len(panel.columns) + 1)
    for label, style in plots.method_styles(panel.values).items():
        runs = np.array(panel.values[label])
        mean = runs.mean(0)
        std = runs.std(0, ddof=1) if len(runs) > 1 else np.zeros_like(mean)
        if np.isnan(mean[0]):  # joint
            mean, std = np.full_like(mean, mean[-1]), np.full_like(std, std[-1])
        axes.plot(steps, mean, label=label, **style.line)
        axes.fill_between(steps, mean - std, mean + std, color=style.color, alpha=0.1, lw=0)
        if label in PAPER_END:
            look: dict[str, Any] = {"markersize": 14, "color": style.color, "clip_on": False}
            axes.plot(steps[-1] + 0.15, PAPER_END[label], marker="_", **look)
    axes.plot([], [], "_", markersize=14, color="#000000", label="the paper, after T4")
    axes.set_xlim(0.9, steps[-1] + 0.3)
    axes.set_xticks(steps, panel.columns)
    axes.set_ylim(0, 1)
    axes.set_ylabel("mean average precision of the sports facts")
    axes.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))
