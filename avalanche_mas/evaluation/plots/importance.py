"""Figures of Ω: where in the network it lies, and how it is distributed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from avalanche_mas.evaluation.plots.styles import COLUMN, drawing, legend_beside, method_styles
from avalanche_mas.importance import Importance

Importances = Importance | Mapping[str, Importance]
"""One importance, or several by name, to be compared."""


def plot_importance_by_layer(
    importance: Importances,
    *,
    quantity: Literal["share", "mean"] = "share",
    most: int = 40,
    ax: Axes | None = None,
) -> Axes:
    """A bar for each layer, in the order of the network from top to bottom.

    :param importance: one, or several by name, such as ``{"MAS": ..., "LocalMAS": ...}``.
    :param quantity: ``"share"`` of ΣΩ over the network, in %, which several importances can be
        compared by; or the ``"mean"`` Ω of the layer's parameters on a logarithmic axis, in
        [‖F‖²]/[θ], with its standard error where that is known.
    :param most: how many layers are drawn. Of a deeper network these are the ones with most of the
        quantity, and the axis says how many are not shown.
    :param ax: where to draw; by default a new figure.
    :return: the axes.
    :raises ValueError: for another quantity, if ``most`` is not positive, or if there is nothing to
        draw.
    """
    if quantity not in ("share", "mean"):
        raise ValueError(f"quantity must be 'share' or 'mean', got {quantity!r}")
    if most < 1:
        raise ValueError(f"most must be positive, got {most}")
    tables = {name: one.summary() for name, one in _named(importance).items()}
    layers = list(dict.fromkeys(layer for table in tables.values() for layer in table.index))
    of_layers = pd.concat(tables.values())[quantity].groupby(level=0).max().fillna(0.0)
    largest = of_layers.nlargest(most).index
    hidden = len(layers) - len(largest)
    layers = [layer for layer in layers if layer in largest]
    styles = method_styles(tables)
    height = 0.86 / len(tables)
    size = (COLUMN, 0.6 + 0.2 * len(layers) + 0.06 * len(layers) * len(tables))
    with drawing(ax, size) as ax:
        ax.grid(visible=False, axis="y")
        for number, (name, table) in enumerate(tables.items()):
            table = table.reindex(layers)
            at = np.arange(len(layers)) + (number - (len(tables) - 1) / 2) * height
            look = styles[name]
            if quantity == "share":
                ax.barh(at, 100 * table["share"], height, label=name, **look.bar)
            else:
                line = {**look.line, "linestyle": "", "ecolor": "black", "elinewidth": 0.7}
                ax.errorbar(table["mean"], at, xerr=table["error"], label=name, **line)
        ax.set_yticks(range(len(layers)), layers)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(layers) - 0.5, -0.5)
        if hidden:
            ax.set_ylabel(f"{hidden} layers with less are not shown")
        if quantity == "share":
            ax.set_xlabel("share of the importance (%)")
        else:
            ax.set_xscale("log")
            _label_short_range(ax.xaxis, pd.concat(tables.values())["mean"])
            ax.set_xlabel("mean importance Ω ([‖F‖²] / [θ])")
        if len(tables) > 1:
            legend_beside(ax)
    return ax


def plot_importance_histogram(
    importance: Importances, *, bins: int = 60, ax: Axes | None = None
) -> Axes:
    """How Ω is distributed over the parameters, on a logarithmic axis.

    Parameters whose Ω is exactly 0 have no place on it; the legend says how many there are.

    :param importance: one, or several by name; they share their bins.
    :param bins: how many, equally wide on the logarithmic axis.
    :param ax: where to draw; by default a new figure.
    :return: the axes.
    :raises ValueError: if ``bins`` is not positive, or no Ω is positive.
    """
    if bins < 1:
        raise ValueError(f"bins must be positive, got {bins}")
    values = {name: _flat(one) for name, one in _named(importance).items()}
    positive = np.concatenate([omega[omega > 0] for omega in values.values()])
    if not positive.size:
        raise ValueError("every importance is 0: there is nothing to draw on a logarithmic axis")
    low, high = np.log10(positive.min()), np.log10(positive.max())
    edges = np.logspace(low, max(high, low + 0.1), bins + 1)
    edges[-1] = max(edges[-1], positive.max())  # rounding must not lose the extremes
    edges[0] = min(edges[0], positive.min())
    styles = method_styles(values)
    with drawing(ax, (COLUMN, 0.65 * COLUMN)) as ax:
        highest, lines = 0.0, cycle(("-", "--", ":", "-."))
        for name, omega in values.items():
            counts, _ = np.histogram(omega[omega > 0], edges)
            label = f"{name}: " if name else ""
            label += f"{100 * np.mean(omega == 0):.3g} % are 0"
            percent, color = 100 * counts / omega.size, styles[name].color
            ax.stairs(percent, edges, fill=True, alpha=0.25, color=color)
            ax.stairs(percent, edges, color=color, linestyle=next(lines), label=label)
            highest = max(highest, percent.max())
        ax.set_xscale("log")
        ax.set_ylim(0, highest * (1.1 + 0.12 * len(values)))  # the legend stands above
        ax.set_xlabel("importance Ω ([‖F‖²] / [θ])")
        ax.set_ylabel("parameters (% per bin)")
        ax.legend(loc="upper left")
    return ax


def _named(importance: Importances) -> dict[str, Importance]:
    if isinstance(importance, Importance):
        importance = {"": importance}
    named = dict(importance)
    if not any(len(one) for one in named.values()):
        raise ValueError("there is no importance to draw: give one, or several by name")
    return named


def _flat(importance: Importance) -> NDArray[np.float64]:
    return np.concatenate(
        [omega.detach().cpu().double().numpy().ravel() for omega in importance.values()]
    )


def _label_short_range(axis: Axis, values: pd.Series[float]) -> None:
    """Between powers of ten that are few, 2 and 5 are labelled as well, in plain numbers."""
    positive = values[values > 0]
    if positive.empty or positive.max() > 100 * positive.min():
        return
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
