"""Draws accuracy as the stream goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_mas.evaluation import average_accuracy, plots

from ..training.result import StreamResult
from .cell import DigitsCell

Tests = Mapping[DigitsCell, StreamResult]
Styles = Mapping[str, Mapping[str, Any]]

# A column of panels for each kind of method, with the same lines to compare with in all of them.
_COMPARE = ("joint", "finetuning", "MAS")
_COLUMNS = {
    "importance of weights": ("LocalMAS", "EWC", "OnlineEWC", "SI"),
    "distillation, merging": ("LwF", "EBLL", "meanIMM", "modeIMM"),
    "Avalanche's own": ("AvalancheMAS", "AvalancheEWC", "AvalancheSI", "AvalancheLwF"),
}


def plot_accuracy(tests: Tests, styles: Styles, path: Path) -> None:
    """Draw a line for each method, with a band for the seeds' deviation.

    A row of panels for each benchmark, a column for each kind of method.

    :param tests: the runs.
    :param styles: of the lines, by row; empty: a column for each kind of method.
    :param path: where the picture goes.
    """
    benchmarks = list(dict.fromkeys(cell.benchmark for cell in tests))
    columns: Mapping[str, Styles] = {"": styles}
    if not styles:
        there = {cell.label for cell in tests}
        kinds = {title: [m for m in own if m in there] for title, own in _COLUMNS.items()}
        columns = {title: _styles(own) for title, own in kinds.items() if own} or {"": _styles([])}
    with plots.style(font_size=10):
        size = (1.2 + 4.2 * len(columns), 1.2 + 3.6 * len(benchmarks))
        figure = Figure(figsize=size)
        grid = figure.subplots(len(benchmarks), len(columns), squeeze=False, sharey="row")
        for row, benchmark in zip(grid, benchmarks, strict=True):
            for panel, (title, own) in zip(row, columns.items(), strict=True):
                _draw(panel, {c: run for c, run in tests.items() if c.benchmark == benchmark}, own)
                panel.set_title(f"{benchmark} digits{f': {title}' if title else ''}")
            row[0].set_ylabel("mean accuracy on\nthe experiences so far (%)")
        for panel in grid[-1]:
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
        figure.savefig(path, dpi=150)


def _styles(methods: Sequence[str]) -> Styles:
    """Those of all figures; what is near finetuning still shows on its broad line."""
    styles = plots.method_styles([*_COMPARE, *methods])
    broad = {"finetuning": {"linewidth": 4}}
    return {method: look.line | broad.get(method, {}) for method, look in styles.items()}


def _draw(panel: Axes, tests: Tests, styles: Styles) -> None:
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
    plots.tidy(panel)
