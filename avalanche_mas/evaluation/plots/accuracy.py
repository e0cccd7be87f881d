"""Figures of an accuracy matrix: all of it, and how each experience is forgotten."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from avalanche_mas.evaluation.accuracy_matrix import AccuracyMatrix, as_matrix
from avalanche_mas.evaluation.plots.styles import COLUMN, drawing, legend_beside, name_ticks

_MARKERS = "os^vDPX<>*ph"


def plot_accuracy_matrix(
    R: ArrayLike | AccuracyMatrix, *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """The accuracy matrix as a heat map: a row after each experience, numbers in %.

    Entries that were not measured stay empty.

    :param R: accuracies in [0, 1], (trained, evaluated experiences), NaN where not measured.
    :param names: of the evaluated experiences; by default 1, 2, ...
    :param ax: where to draw; by default a new figure.
    :return: the axes.
    :raises ValueError: if R is no matrix, holds numbers outside [0, 1], or ``names`` do not fit.
    """
    percent = _percent(R)
    rows, columns = percent.shape
    names = _names(names, columns)
    with drawing(ax, (COLUMN, 0.75 * COLUMN)) as ax:
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        image = ax.imshow(percent, cmap="cividis", vmin=0, vmax=100, aspect="auto")
        for (i, j), value in np.ndenumerate(percent):
            if not np.isnan(value):
                color = "white" if value < 50 else "black"
                ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=color)
        name_ticks(ax, range(columns), names)
        ax.set_yticks(range(rows), names[:rows] if rows == columns else ["all"] * rows)
        ax.tick_params(length=0)
        ax.set_xlabel("evaluated experience")
        ax.set_ylabel("after training on experience")
        bar = ax.figure.colorbar(image, ax=ax, label="accuracy (%)")
        bar.outline.set_visible(False)
    return ax


def plot_forgetting(
    R: ArrayLike | AccuracyMatrix, *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """A line for each experience: its accuracy when it was learnt, and as later ones are learnt.

    :param R: accuracies in [0, 1], (T, T); entries above the diagonal are not read.
    :param names: of the experiences; by default 1, 2, ...
    :param ax: where to draw; by default a new figure.
    :return: the axes.
    :raises ValueError: if R is not square, holds numbers outside [0, 1], or ``names`` do not fit.
    """
    percent = _percent(R)
    n = len(percent)
    if percent.shape != (n, n):
        raise ValueError(
            f"this accuracy matrix has shape {percent.shape}: how each experience is forgotten "
            f"needs a row after each of the {percent.shape[1]}"
        )
    names = _names(names, n)
    steps = np.arange(1, n + 1)
    with drawing(ax, (COLUMN, 0.7 * COLUMN)) as ax:
        for j, color in enumerate(colormaps["viridis"](np.linspace(0, 0.85, n))):
            marker = _MARKERS[j % len(_MARKERS)]
            ax.plot(steps[j:], percent[j:, j], marker=marker, color=color, label=names[j])
        name_ticks(ax, steps.tolist(), names)
        ax.set_ylim(0, 102)
        ax.set_xlabel("after training on experience")
        ax.set_ylabel("accuracy (%)")
        legend_beside(ax)
    return ax


def _percent(R: ArrayLike | AccuracyMatrix) -> NDArray[np.float64]:
    matrix = as_matrix(R)
    if bool(((matrix < 0) | (matrix > 1)).any()):
        wrong = matrix[(matrix < 0) | (matrix > 1)][0]
        raise ValueError(f"accuracies lie in [0, 1], got {wrong:g}: divide percentages by 100")
    return 100 * matrix


def _names(names: Sequence[str] | None, n: int) -> list[str]:
    if names is None:
        return [str(i + 1) for i in range(n)]
    if len(names) != n:
        raise ValueError(f"names must be {n}, one for each experience, got {len(names)}: {names}")
    return list(names)
