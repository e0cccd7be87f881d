"""The look of all figures: fonts and widths, and each method's colour, marker and hatch."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any, NamedTuple

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.transforms import ScaledTranslation

COLUMN = 3.3
"""The width of a column of a two-column paper, in inches."""

PAGE = 6.9
"""The width of its page, in inches."""


class MethodStyle(NamedTuple):
    """What tells a method from others, in lines and in bars."""

    color: str
    marker: str = ""
    linestyle: str = "-"
    hatch: str = ""

    @property
    def line(self) -> dict[str, Any]:
        """Keywords for ``Axes.plot``."""
        edge = {"markeredgecolor": "black", "markeredgewidth": 0.3}
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle, **edge}

    @property
    def bar(self) -> dict[str, Any]:
        """Keywords for ``Axes.bar``. The hatch has the colour of the edge: white."""
        return {"color": self.color, "hatch": self.hatch, "edgecolor": "white", "linewidth": 0.3}


# Okabe and Ito's palette, which colour-blind readers can tell apart, and two browns. Colours that
# are equally dark have unlike hatches. Avalanche's own have our colour, hatched and dotted.
_METHODS = {
    "finetuning": MethodStyle("#999999", "", "-"),
    "joint": MethodStyle("#000000", "", "--"),
    "MAS": MethodStyle("#0072B2", "o"),
    "LocalMAS": MethodStyle("#009E73", "v", hatch="...."),
    "EWC": MethodStyle("#E69F00", "s"),
    "OnlineEWC": MethodStyle("#D55E00", "D", hatch="xxxx"),
    "SI": MethodStyle("#CC79A7", "X", hatch="\\\\\\\\"),
    "LwF": MethodStyle("#56B4E9", "^", hatch="----"),
    "EBLL": MethodStyle("#F0E442", "P"),
    "meanIMM": MethodStyle("#8C564B", "<", hatch="||||"),
    "modeIMM": MethodStyle("#C9A38F", ">", hatch="...."),
    "AvalancheMAS": MethodStyle("#0072B2", "*", ":", "////"),
    "AvalancheEWC": MethodStyle("#E69F00", "p", ":", "////"),
    "AvalancheSI": MethodStyle("#CC79A7", "h", ":", "////"),
    "AvalancheLwF": MethodStyle("#56B4E9", "d", ":", "++++"),
}
_OTHERS = list(_METHODS.values())[2:]


def method_styles(methods: Iterable[str]) -> dict[str, MethodStyle]:
    """One style for each method, the same in every figure.

    :param methods: names. Those of :data:`avalanche_mas.plugins.registry.METHODS` have a style of
        their own; others take those that are left, in order, and begin again when all are taken.
    :return: name → style, in the order of ``methods``.
    """
    names = list(dict.fromkeys(methods))
    taken = {_METHODS[name] for name in names if name in _METHODS}
    free = [other for other in _OTHERS if other not in taken]
    rest = chain(free, chain.from_iterable(repeat(_OTHERS)))
    return {name: _METHODS[name] if name in _METHODS else next(rest) for name in names}


@contextmanager
def style(font_size: float = 8.0) -> Iterator[None]:
    """The settings of all figures, for a figure of one's own; nothing outside the block changes.

    :param font_size: of all text, in points.
    :return: a context manager.
    """
    settings: Any = {
        "font.size": font_size,
        "axes.labelsize": font_size,
        "axes.linewidth": 0.8,
        "axes.titlesize": font_size,
        "figure.constrained_layout.use": True,
        "figure.dpi": 150,
        "hatch.linewidth": 0.6,
        "legend.fontsize": font_size,
        "legend.frameon": False,
        "legend.title_fontsize": font_size,
        "lines.linewidth": font_size / 6,
        "lines.markersize": font_size / 2,
        "savefig.dpi": 300,
        "xtick.labelsize": font_size,
        "ytick.labelsize": font_size,
    }
    interactive = matplotlib.is_interactive()
    try:
        with matplotlib.rc_context(settings):
            yield
            interactive = matplotlib.is_interactive()
    finally:
        # The first figure of a notebook turns it on, which must outlive the settings: without it
        # the notebook shows no figure from there on.
        matplotlib.interactive(interactive)


@contextmanager
def drawing(ax: Axes | None, size: tuple[float, float]) -> Iterator[Axes]:
    """The axes to draw into: those of the caller, under the caller's settings, or new ones.

    :param ax: the caller's, or None.
    :param size: of the new figure, in inches.
    """
    if ax is not None:
        yield tidy(ax)
        return
    with style():
        _, ax = pyplot.subplots(figsize=size)
        yield tidy(ax)


def tidy(ax: Axes, *, grid: str = "both") -> Axes:
    """Take away half of the frame and put a light grid behind what is drawn.

    :param ax: what to tidy.
    :param grid: ``"x"``, ``"y"`` or ``"both"``.
    :return: the same.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="#dddddd", linewidth=0.6)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    # Ticks are made when they are drawn, which may be outside of the settings' block.
    ax.tick_params(axis="x", labelsize=matplotlib.rcParams["xtick.labelsize"])
    ax.tick_params(axis="y", labelsize=matplotlib.rcParams["ytick.labelsize"])
    return ax


def name_ticks(ax: Axes, at: Sequence[float], names: Sequence[str]) -> None:
    """Write names under the axes, upright where they do not fit beside each other.

    :param ax: whose width counts.
    :param at: where they stand.
    :param names: as many.
    """
    size = FontProperties(size=matplotlib.rcParams["xtick.labelsize"]).get_size_in_points()
    needed = len(names) * (0.6 * max(map(len, names)) + 1) * size / 72  # inches
    ax.set_xticks(at, names, rotation=90 if needed > 0.7 * _room(ax) else 0)


def _room(ax: Axes) -> float:
    """The axes' share of the figure's width, labels included, in inches."""
    figure, spec = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure is not None
    columns = 1.0 if spec is None else len(spec.colspan) / spec.get_gridspec().ncols
    return columns * figure.get_figwidth()


def legend_beside(ax: Axes, title: str | None = None) -> None:
    """A legend to the right of the axes, where it hides nothing."""
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    ax.legend(title=title, borderaxespad=0.2, handletextpad=0.5, **place)


def legend_below(ax: Axes) -> None:
    """A legend under the labels of the ticks, in as many columns as there is room for."""
    figure, font = ax.get_figure(root=True), matplotlib.rcParams["font.size"]
    assert figure is not None
    labels = ax.get_legend_handles_labels()[1]
    widest = 0.55 * max(map(len, labels)) + 3.6  # in units of the font size, as all here
    upright = [tick.get_text() for tick in ax.get_xticklabels() if tick.get_rotation()]
    ticks = 2.2 if not upright else 1.2 + 0.6 * max(map(len, upright))
    under_ticks = ScaledTranslation(0, -ticks * font / 72, figure.dpi_scale_trans)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + under_ticks,
        ncols=max(1, min(len(labels), int(72 * _room(ax) / font / widest))),
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.2,
    )
