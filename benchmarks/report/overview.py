"""Many methods on many tasks in one picture: a heat map, and accuracy against forgetting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from avalanche_mas.evaluation import plots

ByMethod = Mapping[str, NDArray[np.float64]]


def overview(accuracies: ByMethod, drops: ByMethod, tasks: Sequence[str]) -> Figure:
    """Draw accuracies after the last task, and their mean against the mean drop.

    :param accuracies: by method, of shape (seeds, tasks), in %.
    :param drops: by method, of shape (seeds,), in points; NaN: not defined, as of joint training.
    :param tasks: their names.
    :return: the figure.
    """
    with plots.style(font_size=9):
        figure = Figure(figsize=(12.5, 1.4 + 0.33 * len(accuracies)))
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _heat_map(left, accuracies, tasks)
        _scatter(plots.tidy(right), accuracies, drops)
    return figure


def _heat_map(ax: Axes, accuracies: ByMethod, tasks: Sequence[str]) -> None:
    rows = np.array([[*of.mean(axis=0), of.mean()] for of in accuracies.values()])
    ax.imshow(rows, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (i, j), value in np.ndenumerate(rows):
        color = "white" if value < 50 else "black"
        ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=color)
    ax.axvline(len(tasks) - 0.5, color="white", linewidth=3)  # the mean stands apart
    ax.set_xticks(range(len(tasks) + 1), [*tasks, "mean"])
    ax.set_yticks(range(len(rows)), list(accuracies))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title("accuracy after the last task (%)")


def _scatter(ax: Axes, accuracies: ByMethod, drops: ByMethod) -> None:
    for method, look in plots.method_styles(accuracies).items():
        final, lost = accuracies[method].mean(axis=1), drops[method]
        if np.isnan(lost).any():
            ax.axhline(final.mean(), label=method, **look.line)
            continue
        bars = [values.std(ddof=1) if len(values) > 1 else 0.0 for values in (lost, final)]
        line = {**look.line, "linestyle": "", "marker": look.marker or "o", "capsize": 2}
        ax.errorbar(lost.mean(), final.mean(), bars[1], bars[0], label=method, **line)
    ax.set_xlabel("forgetting: mean drop since a task was learnt (points)")
    ax.set_ylabel("mean accuracy after the last task (%)")
    ax.set_title("best: upper left; bars: standard deviation over the seeds")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
