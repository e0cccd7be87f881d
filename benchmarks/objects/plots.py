"""Pictures in the layout of the paper's: bars for each task, and lines over the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; Avalanche's own are hatched.
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "finetuning": {"color": "#999999"},
    "joint": {"color": "#000000"},
    "MAS": {"color": "#0072B2"},
    "LocalMAS": {"color": "#009E73"},
    "EWC": {"color": "#E69F00"},
    "OnlineEWC": {"color": "#D55E00"},
    "SI": {"color": "#CC79A7"},
    "LwF": {"color": "#56B4E9"},
    "EBLL": {"color": "#F0E442"},
    "meanIMM": {"color": "#8C564B"},
    "modeIMM": {"color": "#C9A38F"},
    "AvalancheMAS": {"color": "#0072B2", "hatch": "////"},
    "AvalancheEWC": {"color": "#E69F00", "hatch": "////"},
    "AvalancheSI": {"color": "#CC79A7", "hatch": "////"},
    "AvalancheLwF": {"color": "#56B4E9", "hatch": "////"},
}


def draw_bars(
    means: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    groups: Sequence[str],
    path: Path,
) -> None:
    """Draw accuracies above and drops below, a group of bars for each task.

    :param means: for each method its accuracy and its drop in each group, in %.
    :param groups: the names of the tasks, and what else there are bars for.
    :param path: where the picture goes.
    """
    labels = ("accuracy after the last task (%)", "drop since learnt (points)")
    methods = [method for method in _STYLES if method in means]
    methods += [method for method in means if method not in _STYLES]
    with matplotlib.rc_context({"font.size": 11, "hatch.linewidth": 0.6}):
        figure = Figure(figsize=(15, 8.5), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        width = 0.86 / len(methods)
        x = np.arange(len(groups))
        for i, method in enumerate(methods):
            at = x + (i - (len(methods) - 1) / 2) * width
            for panel, heights in zip(panels, means[method], strict=True):
                style = _STYLES.get(method, {})
                panel.bar(at, heights, width, label=method, edgecolor="white", lw=0.3, **style)
        for panel, label in zip(panels, labels, strict=True):
            panel.set_ylabel(label)
            panel.set_xticks(x, groups)
            panel.tick_params(axis="x", length=0, labelbottom=True)
            panel.grid(axis="y", alpha=0.3)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
            panel.axhline(0, color="black", lw=0.8)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
        figure.savefig(path, dpi=130)


def draw_lines(
    curves: Mapping[str, Sequence[float]], tasks: Sequence[str], label: str, path: Path
) -> None:
    """Draw a line for each method over the tasks, as in the paper's Figure 6.

    Methods whose lines could not be told apart share one.

    :param curves: for each method a number after each task.
    :param tasks: the names of the tasks.
    :param label: what the numbers are.
    :param path: where the picture goes.
    """
    together: dict[tuple[float, ...], list[str]] = {}
    for method, values in curves.items():
        together.setdefault(tuple(round(value, 2) for value in values), []).append(method)
    with matplotlib.rc_context({"font.size": 11}):
        figure = Figure(figsize=(10, 6), layout="constrained")
        panel = figure.subplots()
        for methods, marker in zip(together.values(), cycle("os^vDPX<>*"), strict=False):
            panel.plot(
                tasks,
                curves[methods[0]],
                label="\n".join(wrap(", ".join(methods), 24)),
                color=_STYLES.get(methods[0], {}).get("color"),
                marker=marker,
                linestyle="--" if "hatch" in _STYLES.get(methods[0], {}) else "-",
            )
        panel.set_ylabel(label)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right upper", frameon=False)
        figure.savefig(path, dpi=130)
