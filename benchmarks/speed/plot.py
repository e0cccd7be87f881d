"""The pictures: costs side by side, and how they grow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .clock import Quartiles, by_round, quartiles
from .estimation import FIRST, FLOOR, FLOOR_BESIDE, floor_of
from .growth import TITLES
from .networks import NETWORKS
from .penalty import COPY, COPY_STREAMS, NONE, PLUGINS, STREAMS

# Okabe and Ito's palette, which colour-blind readers can tell apart, with unlike markers as well.
_STYLES: dict[str, Mapping[str, Any]] = {
    FLOOR: {"color": "#000000", "marker": "s"},
    "exact": {"color": "#0072B2", "marker": "o"},
    "l-MAS": {"color": "#009E73", "marker": "v"},
    "vector output": {"color": "#56B4E9", "marker": "^"},
    "Avalanche MASPlugin": {"color": "#CC79A7", "marker": "D"},
    "batch-size-1 loop": {"color": "#999999", "marker": "x"},
    "torch.func.vmap": {"color": "#E69F00", "marker": "P"},
    "Opacus": {"color": "#D55E00", "marker": "*"},
    "BackPACK": {"color": "#F0E442", "marker": "X"},
    "MASPlugin, proximal step": {"color": "#0072B2", "marker": "o"},
    "Avalanche EWCPlugin": {"color": "#E69F00", "marker": "s"},
}
_PAGES = ("#0072B2", "#56B4E9")  # memory in small pages, and in huge ones


def plot_costs(rows: pd.DataFrame, path: Path) -> bool:
    """Draw a panel for the time of importance, one for its memory and one for the penalty.

    :param rows: what was measured; panels without figures are left out.
    :param path: where the picture goes.
    :return: whether there is one.
    """
    drawings = {"estimation": _draw_time, "memory": _draw_memory, "penalty": _draw_penalty}
    parts = {part: rows[rows["part"] == part] for part in drawings if part in set(rows["part"])}
    if not parts:
        return False
    with matplotlib.rc_context({"font.size": 9, "lines.markersize": 6}):
        figure = Figure(figsize=(10, 3.4 * len(parts)), layout="constrained")
        axes = figure.subplots(len(parts), 1, squeeze=False)[:, 0]
        for axis, (part, own) in zip(axes, parts.items(), strict=True):
            drawings[part](axis, own)
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
            _tidy(axis)
        figure.savefig(path, dpi=150)
    return True


def plot_growth(rows: pd.DataFrame, path: Path) -> bool:
    """Draw a panel for everything that grows.

    :param rows: what was measured; there is no picture without the part on growth.
    :param path: where the picture goes.
    :return: whether there is one.
    """
    rows = rows[rows["part"] == "growth"]
    if rows.empty:
        return False
    sections = list(rows.groupby("section", sort=False))
    with matplotlib.rc_context({"font.size": 9, "lines.markersize": 5}):
        figure = Figure(figsize=(3.5 * len(sections), 3.8), layout="constrained")
        axes = figure.subplots(1, len(sections), squeeze=False)[0]
        for axis, (section, own) in zip(axes, sections, strict=True):
            _draw_growth(axis, str(section), own)
            _tidy(axis)
        figure.savefig(path, dpi=150)
    return True


def _draw_time(axis: Axes, rows: pd.DataFrame) -> None:
    ratios = {}
    for network, own in rows.groupby("section", sort=False):
        times = by_round(own)
        for way in times.columns.difference([FLOOR, FLOOR_BESIDE, FIRST], sort=False):
            floor = times[floor_of(str(way))]
            ratios[NETWORKS[str(network)].title, str(way)] = quartiles(times[way] / floor)
    _draw_points(axis, ratios)
    axis.set_title("Importance: time per sample, median and quartiles")


def _draw_memory(axis: Axes, rows: pd.DataFrame) -> None:
    ratios = {}
    for section, own in rows.groupby("section", sort=False):
        network, _, batch = str(section).partition(", ")
        peaks = own.dropna(subset="value").set_index("way")["value"]
        for way in peaks.index.intersection(list(_STYLES)).drop(FLOOR):
            ratio = float(peaks[way] / peaks[FLOOR])
            ratios[f"{NETWORKS[network].title}\n{batch}", str(way)] = Quartiles(ratio, ratio, ratio)
    _draw_points(axis, ratios)
    axis.set_title("Importance: peak memory, of per-sample gradients for a few samples only")


def _draw_points(axis: Axes, ratios: dict[tuple[str, str], Quartiles]) -> None:
    """One group for each network, in it one point for each way."""
    groups = list(dict.fromkeys(group for group, _ in ratios))
    ways = [way for way in _STYLES if any(way == other for _, other in ratios)]
    for number, way in enumerate(ways):
        shift = 0.7 * ((number + 0.5) / len(ways) - 0.5)
        known = {i: ratios[group, way] for i, group in enumerate(groups) if (group, way) in ratios}
        x = [i + shift for i in known]
        median, ends = _whiskers(list(known.values()))
        axis.errorbar(x, median, ends, label=way, ls="", mec="black", mew=0.4, **_STYLES[way])
    axis.axhline(1, color="black", lw=0.8)
    axis.set_yscale("log")
    axis.set_xticks(range(len(groups)), groups)
    axis.set_ylabel("÷ forward + backward")


def _draw_penalty(axis: Axes, rows: pd.DataFrame) -> None:
    plugins = [way for way in PLUGINS if way != NONE]
    for number, (pages, own) in enumerate(rows.groupby("section", sort=False)):
        steps = by_round(own)
        figures = [quartiles(1e3 * (steps[way] - steps[NONE])) for way in plugins]
        median, ends = _whiskers(figures)
        y = np.arange(len(plugins)) + 0.36 * number
        axis.barh(y, median, 0.34, xerr=ends, color=_PAGES[number], label=str(pages))
        floor = 1e3 * STREAMS / COPY_STREAMS * float(steps[COPY].median())
        label = f"bandwidth floor, {pages}"
        axis.axvline(floor, color=_PAGES[number], ls="--", label=label)
    axis.set_yticks(np.arange(len(plugins)) + 0.18, plugins)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("milliseconds added")
    axis.set_title("Penalty: what it adds to a training step")


def _draw_growth(axis: Axes, section: str, rows: pd.DataFrame) -> None:
    """One line for each way; of training steps, what is added to one without a plugin."""
    if NONE in set(rows["way"]):
        steps = rows.set_index(["x", "round", "way"])["value"].unstack("way")
        added = steps.drop(columns=NONE).sub(steps[NONE], axis="index")
        rows = added.reset_index().melt(["x", "round"], var_name="way")
    for way in [way for way in _STYLES if way in set(rows["way"])]:
        by_x = rows[rows["way"] == way].groupby("x")["value"]
        low, median, high = (1e3 * by_x.quantile(q) for q in (0.25, 0.5, 0.75))
        style = _STYLES[way]
        axis.plot(median.index, median, label=way, **style)
        axis.fill_between(median.index, low, high, color=style["color"], alpha=0.15, lw=0)
    title, x, y = TITLES[section]
    axis.set_title(title)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.legend(frameon=False)


def _whiskers(figures: list[Quartiles]) -> tuple[list[float], list[list[float]]]:
    """Medians, and how far the quartiles are below and above them."""
    below = [f.median - f.low for f in figures]
    above = [f.high - f.median for f in figures]
    return [f.median for f in figures], [below, above]


def _tidy(axis: Axes) -> None:
    """Numbers instead of powers on logarithmic axes, and no frame."""
    for scale, line in ((axis.get_xscale(), axis.xaxis), (axis.get_yscale(), axis.yaxis)):
        if scale == "log":
            line.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            line.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
