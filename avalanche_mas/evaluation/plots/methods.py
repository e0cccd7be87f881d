"""Figures that compare methods: tasks, memory, and stability against plasticity."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from avalanche_mas.evaluation.accuracy_matrix import AccuracyMatrix, forgetting, new_task_accuracy
from avalanche_mas.evaluation.plots.styles import (
    COLUMN,
    PAGE,
    drawing,
    legend_below,
    legend_beside,
    method_styles,
    name_ticks,
)

ByMethod = pd.DataFrame | Mapping[str, Sequence[float]]
"""A number for each task: a column, or an entry, for each method."""

_UNITS = (("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("bytes", 1.0))


def plot_task_bars(
    values: ByMethod,
    tasks: Sequence[str] | None = None,
    *,
    errors: ByMethod | None = None,
    label: str = "final accuracy (%)",
    ax: Axes | None = None,
) -> Axes:
    """A group of bars for each task, one bar for each method, as in the paper's Figure 5.

    :param values: a number for each task, by method, in the unit that ``label`` says.
    :param tasks: their names; by default the index of ``values`` if it is a DataFrame.
    :param errors: half the length of an error bar, in the same form: a standard deviation, say.
    :param label: what the bars show, with its unit.
    :param ax: where to draw; by default a new figure, as wide as a page.
    :return: the axes.
    :raises ValueError: if there is nothing to draw, or numbers and names do not fit.
    """
    table = _table(values, tasks)
    spread = None if errors is None else _table(errors, tasks).reindex(columns=table.columns)
    width = 0.86 / table.shape[1]
    x = np.arange(len(table))
    with drawing(ax, (PAGE, 0.35 * PAGE)) as ax:
        ax.grid(visible=False, axis="x")
        for number, (method, look) in enumerate(method_styles(table.columns).items()):
            at = x + (number - (table.shape[1] - 1) / 2) * width
            ax.bar(at, table[method], width, label=method, **look.bar)
            if spread is not None:
                ax.errorbar(
                    at, table[method], spread[method], fmt="none", ecolor="black", elinewidth=0.7
                )
        ax.axhline(0, color="black", linewidth=0.8)
        name_ticks(ax, x.tolist(), [str(task) for task in table.index])
        ax.tick_params(axis="x", length=0)
        ax.set_xlim(-0.55, len(table) - 0.45)
        if float(table.min().min()) >= 0:
            ax.set_ylim(bottom=0)  # also where an error bar goes further
        ax.set_ylabel(label)
        legend_below(ax)
    return ax


def plot_memory(
    sizes: ByMethod, tasks: Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """What each method keeps beside the network after each task, as in the paper's Figure 6.

    Methods whose lines would hide each other share one, and the legend names them all.

    :param sizes: bytes after each task, by method, see :func:`.method_memory`.
    :param tasks: their names; by default the index of ``sizes`` if it is a DataFrame.
    :param ax: where to draw; by default a new figure.
    :return: the axes.
    :raises ValueError: if there is nothing to draw, a size is negative, or names do not fit.
    """
    table = _table(sizes, tasks)
    largest = float(table.max().max())
    if (table < 0).any().any():
        raise ValueError(f"memory must not be negative, got {float(table.min().min()):g} bytes")
    unit, one = next((unit, one) for unit, one in _UNITS if largest >= one or one == 1)
    together: list[list[str]] = []
    for method in table.columns:
        for group in together:
            if float((table[group[0]] - table[method]).abs().max()) <= 0.005 * largest:
                group.append(method)
                break
        else:
            together.append([method])
    styles = method_styles(table.columns)
    with drawing(ax, (COLUMN, 0.7 * COLUMN)) as ax:
        for group in together:
            label = "\n".join(wrap(", ".join(group), 20))
            ax.plot(range(len(table)), table[group[0]] / one, label=label, **styles[group[0]].line)
        name_ticks(ax, range(len(table)), [str(task) for task in table.index])
        ax.set_ylim(bottom=0)
        ax.set_xlabel("after task")
        ax.set_ylabel(f"memory ({unit})")
        legend_beside(ax)
    return ax


def plot_stability_plasticity(
    matrices: Mapping[str, Mapping[float, ArrayLike | AccuracyMatrix]], *, ax: Axes | None = None
) -> Axes:
    """What λ trades: a point for each λ, a line for each method; the best corner is the upper left.

    Across is :func:`.forgetting`, which a large λ makes small, and up is
    :func:`.new_task_accuracy`, which it makes small as well. The legend has each method's range of
    λ; the marker of the largest is open, so that it is seen which way a line goes.

    :param matrices: method → λ → accuracy matrix (T, T), or (seeds, T, T), of which the mean is
        drawn.
    :param ax: where to draw; by default a new figure.
    :return: the axes.
    :raises ValueError: if there is nothing to draw, or a matrix is not square or lacks entries.
    """
    if not matrices or not all(matrices.values()):
        raise ValueError("there is nothing to draw: give at least one λ of every method")
    styles = method_styles(matrices)
    with drawing(ax, (COLUMN, 0.8 * COLUMN)) as ax:
        for method, by_lambda in matrices.items():
            points = {lam: _point(by_lambda[lam]) for lam in sorted(by_lambda)}
            x, y = np.transpose(list(points.values()))
            least, most = min(points), max(points)
            label = f"{method}\nλ = {least:g}" + (f"–{most:g}" if most > least else "")
            ax.plot(x, y, label=label, **styles[method].line)
            ax.plot(*points[most], **styles[method].line | {"markerfacecolor": "white"})
        ax.set_xlabel("forgetting (points)")
        ax.set_ylabel("accuracy on new tasks (%)")
        legend_beside(ax, "open: the largest λ")
    return ax


def _point(R: ArrayLike | AccuracyMatrix) -> tuple[float, float]:
    """Forgetting and new-task accuracy in %, of one run or the mean over seeds."""
    runs = np.asarray(R.result() if isinstance(R, AccuracyMatrix) else R, dtype=np.float64)
    runs = runs[None] if runs.ndim == 2 else runs
    lost = np.mean([forgetting(run) for run in runs])
    learnt = np.mean([new_task_accuracy(run) for run in runs])
    return 100 * float(lost), 100 * float(learnt)


def _table(values: ByMethod, tasks: Sequence[str] | None) -> pd.DataFrame:
    """A column for each method, a row for each task."""
    table = pd.DataFrame(values).astype(float)
    if not table.size:
        raise ValueError("there is nothing to draw: give a number for each task, by method")
    if tasks is not None:
        if len(tasks) != len(table):
            raise ValueError(
                f"{len(table)} numbers for each method, but names of {len(tasks)} tasks: "
                f"{', '.join(tasks)}"
            )
        table.index = pd.Index(list(tasks))
    elif not isinstance(values, pd.DataFrame):
        table.index = table.index + 1
    return table
