"""The picture beside the table: accuracy as the stream goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_mas.evaluation import average_accuracy

if TYPE_CHECKING:
    from .report import Outcome

Styles = Mapping[str, Mapping[str, Any]]

# Okabe and Ito's palette, which colour-blind readers can tell apart, with unlike markers as well.
# A column of panels for each kind of method, with the same lines to compare with in all of them.
_COMPARE: Styles = {
    "joint": {"color": "#000000", "linestyle": "--"},
    "finetuning": {"color": "#999999", "linewidth": 4},
    "MAS": {"color": "#0072B2", "marker": "o"},
}
_COLUMNS: Mapping[str, Styles] = {
    "importance of weights": {
        "LocalMAS": {"color": "#009E73", "marker": "v"},
        "EWC": {"color": "#E69F00", "marker": "s"},
        "OnlineEWC": {"color": "#D55E00", "marker": "D"},
        "SI": {"color": "#CC79A7", "marker": "x"},
    },
    "distillation, merging": {
        "LwF": {"color": "#56B4E9", "marker": "^"},
        "EBLL": {"color": "#009E73", "marker": "P"},
        "meanIMM": {"color": "#E69F00", "marker": "<"},
        "modeIMM": {"color": "#D55E00", "marker": ">"},
    },
    "Avalanche's own": {
        "AvalancheMAS": {"color": "#009E73", "marker": "v"},
        "AvalancheEWC": {"color": "#E69F00", "marker": "s"},
        "AvalancheSI": {"color": "#000000", "marker": "x", "linestyle": ":"},
        "AvalancheLwF": {"color": "#56B4E9", "marker": "^"},
    },
}


def plot_accuracy(outcome: Outcome, path: Path) -> None:
    """Draw a line for each method, with a band for the seeds' deviation.

    A row of panels for each benchmark, a column for each kind of method.

    :param outcome: what to draw.
    :param path: where the picture goes.
    """
    benchmarks = list(dict.fromkeys(cell.benchmark for cell in outcome.tests))
    columns: Mapping[str, Styles] = {"": outcome.styles}
    if not outcome.styles:
        columns = {title: {**_COMPARE, **styles} for title, styles in _COLUMNS.items()}
    with matplotlib.rc_context({"font.size": 10, "lines.linewidth": 1.6, "lines.markersize": 5}):
        size = (1.2 + 4.2 * len(columns), 1.2 + 3.6 * len(benchmarks))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(benchmarks), len(columns), squeeze=False, sharey="row")
        for row, benchmark in zip(grid, benchmarks, strict=True):
            for panel, (title, styles) in zip(row, columns.items(), strict=True):
                _draw(panel, outcome, benchmark, styles)
                panel.set_title(f"{benchmark} digits{f': {title}' if title else ''}")
            row[0].set_ylabel("mean accuracy on\nthe experiences so far (%)")
        for panel in grid[-1]:
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
        figure.savefig(path, dpi=150)


def _draw(panel: Axes, outcome: Outcome, benchmark: str, styles: Styles) -> None:
    tests = {cell: run for cell, run in outcome.tests.items() if cell.benchmark == benchmark}
    n_experiences = next(iter(tests)).n_experiences
    steps = np.arange(1, n_experiences + 1)
    for method, style in styles.items():
        curves = []
        for cell, run in tests.items():
            if cell.label != method:
                continue
            R = np.array(run.accuracy, dtype=float)  # entries not measured become NaN
            joint = len(R) < n_experiences
            curves.append(np.full(n_experiences, R[-1].mean()) if joint else average_accuracy(R))
        if not curves:
            continue
        mean = 100 * np.mean(curves, axis=0)
        std = 100 * np.std(curves, axis=0, ddof=1) if len(curves) > 1 else np.zeros_like(mean)
        panel.plot(steps, mean, label=method, **style)
        low, high = mean - std, np.minimum(mean + std, 100)
        panel.fill_between(steps, low, high, color=style["color"], alpha=0.1, lw=0)
    panel.set_xlabel("experiences learned")
    panel.set_xticks(steps)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
