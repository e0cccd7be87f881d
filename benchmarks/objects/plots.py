"""Pictures in the layout of the paper's: bars for each task, and lines over the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from avalanche_mas.evaluation import plots


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
    with plots.style(font_size=11):
        figure = Figure(figsize=(15, 8.5))
        panels = figure.subplots(2, 1)
        for part, (panel, label) in enumerate(zip(panels, labels, strict=True)):
            values = {method: both[part] for method, both in means.items()}
            plots.plot_task_bars(values, groups, label=label, ax=panel)
        panels[0].get_legend().remove()
        figure.savefig(path, dpi=130)


def draw_memory(sizes: Mapping[str, Sequence[float]], tasks: Sequence[str], path: Path) -> None:
    """Draw a line for each method over the tasks, as in the paper's Figure 6.

    :param sizes: for each method the bytes that it keeps after each task.
    :param tasks: the names of the tasks.
    :param path: where the picture goes.
    """
    with plots.style(font_size=11):
        figure = Figure(figsize=(10, 6))
        plots.plot_memory(sizes, tasks, ax=figure.subplots())
        figure.savefig(path, dpi=130)
