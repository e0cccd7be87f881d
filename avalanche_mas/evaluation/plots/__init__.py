"""Figures: what was learnt and forgotten, what it cost, and where the importance lies.

Each function draws into one Axes and returns it. Without ``ax`` it makes a figure for one column of
a paper, in the common :func:`style`. ::

    from avalanche_mas.evaluation import plots

    ax = plots.plot_accuracy_matrix(matrix)
    ax.figure.savefig("matrix.pdf")

    with plots.style(font_size=10):
        figure, axes = plt.subplots(1, 2, figsize=(plots.PAGE, 2.6))
        plots.plot_forgetting(matrix, ax=axes[0])
        plots.plot_importance_by_layer(importance, ax=axes[1])

Colours are Okabe and Ito's, or of a scale that gets lighter all the way. What has another colour
also has another marker or hatch, for print in grey.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche_mas.evaluation.plots.accuracy import plot_accuracy_matrix, plot_forgetting
    from avalanche_mas.evaluation.plots.importance import (
        plot_importance_by_layer,
        plot_importance_histogram,
    )
    from avalanche_mas.evaluation.plots.methods import (
        plot_memory,
        plot_stability_plasticity,
        plot_task_bars,
    )
    from avalanche_mas.evaluation.plots.styles import (
        COLUMN,
        PAGE,
        MethodStyle,
        method_styles,
        style,
        tidy,
    )

# Searched when a name is first used, as matplotlib takes a while.
_MODULES = ("styles", "accuracy", "importance", "methods")

__all__ = [
    "COLUMN",
    "PAGE",
    "MethodStyle",
    "method_styles",
    "plot_accuracy_matrix",
    "plot_forgetting",
    "plot_importance_by_layer",
    "plot_importance_histogram",
    "plot_memory",
    "plot_stability_plasticity",
    "plot_task_bars",
    "style",
    "tidy",
]


def __getattr__(name: str) -> object:
    for module in _MODULES if name in __all__ else ():
        found = import_module(f"{__name__}.{module}")
        if hasattr(found, name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
