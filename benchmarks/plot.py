"""The picture beside the table: accuracy as the stream goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_mas.evaluation import average_accuracy
from benchmarks.report import Outcome

# Okabe and Ito's palette, which colour-blind readers can tell apart, with unlike markers as well.
_STYLES: dict[str, Mapping[str, Any]] = {
    "joint": {"color": "#000000", "linestyle": "--"},
    "finetuning": {"color": "#999999", "linewidth": 4},
    "AvalancheEWC": {"color": "#E69F00", "marker": "s"},
    "AvalancheSI": {"color": "#000000", "marker": "x", "linestyle": ":"},
    "AvalancheLwF": {"color": "#56B4E9", "marker": "^"},
    "AvalancheMAS": {"color": "#CC79A7", "marker": "D"},
    "MAS": {"color": "#0072B2", "marker": "o"},
    "LocalMAS": {"color": "#009E73", "marker": "v"},
}


def plot_accuracy(outcome: Outcome, path: Path) -> None:
    """Draw a panel for each benchmark, a line for each method, a band for the seeds' deviation.

    :param outcome: what to draw.
    :param path: where the picture goes.
    """
    benchmarks = list(dict.fromkeys(cell.benchmark for cell in outcome.tests))
    with matplotlib.rc_context({"font.size": 10, "lines.linewidth": 1.6, "lines.markersize": 5}):
        figure = Figure(figsize=(5 * len(benchmarks), 4.6), layout="constrained")
        panels = figure.subplots(1, len(benchmarks), squeeze=False)[0]
        for panel, benchmark in zip(panels, benchmarks, strict=True):
            _draw(panel, outcome, benchmark)
        panels[0].set_ylabel("mean accuracy on the experiences so far (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=2 * len(panels), frameon=False
        )
        figure.savefig(path, dpi=150)


def _draw(panel: Axes, outcome: Outcome, benchmark: str) -> None:
    tests = {cell: run for cell, run in outcome.tests.items() if cell.benchmark == benchmark}
    n_experiences = next(iter(tests)).n_experiences
    steps = np.arange(1, n_experiences + 1)
    for method, style in {**_STYLES, **outcome.styles}.items():
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
    panel.set_title(f"{benchmark} digits")
    panel.set_xlabel("experiences learned")
    panel.set_xticks(steps)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
