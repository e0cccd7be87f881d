"""What the figures draw: numbers read back from what is on the axes, and their labels."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from avalanche_mas import Importance
from avalanche_mas.evaluation import AccuracyMatrix, forgetting, new_task_accuracy, plots
from avalanche_mas.plugins.registry import METHODS

NAN = float("nan")
R = np.array([[0.9, 0.1, NAN], [0.5, 0.8, 0.2], [0.25, 0.6, 0.7]])
IMPORTANCE = Importance(
    {
        "features.0.weight": torch.tensor([[1.0, 0.0], [4.0, 3.0]]),
        "features.0.bias": torch.tensor([0.0]),
        "classifier.weight": torch.tensor([32.0]),
    },
    samples=2,
    standard_errors={"features.0": 2.5},
)
OTHER = Importance(
    {"features.0.weight": torch.tensor([[3.0]]), "classifier.weight": torch.tensor([1.0])}, 2
)
MEMORY = {"MAS": [2e6, 2e6], "LocalMAS": [2.001e6, 2e6], "modeIMM": [1e6, 4e6]}
FRONT = {"MAS": {10.0: R, 0.1: np.tril(R)}, "my own": {1.0: [R, np.tril(R)]}}
FIGURES = {
    "matrix": lambda **options: plots.plot_accuracy_matrix(R, **options),
    "forgetting": lambda **options: plots.plot_forgetting(R, **options),
    "layers": lambda **options: plots.plot_importance_by_layer(IMPORTANCE, **options),
    "means": lambda **options: plots.plot_importance_by_layer(
        IMPORTANCE, quantity="mean", **options
    ),
    "histogram": lambda **options: plots.plot_importance_histogram(IMPORTANCE, **options),
    "bars": lambda **options: plots.plot_task_bars({"MAS": [1, 2]}, **options),
    "memory": lambda **options: plots.plot_memory(MEMORY, **options),
    "front": lambda **options: plots.plot_stability_plasticity(FRONT, **options),
}


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


def labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture(autouse=True)
def no_figure_of_others():
    pyplot.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure(name, tmp_path):
    """It draws into the axes that it is given, leaves the settings alone, and fits its figure."""
    before = dict(matplotlib.rcParams)
    figure = Figure(figsize=(5, 4))  # not one of pyplot's
    ax = figure.subplots()
    assert FIGURES[name](ax=ax) is ax
    assert not pyplot.get_fignums()
    own = FIGURES[name]().get_figure()
    assert dict(matplotlib.rcParams) == before
    assert own.get_figwidth() == (plots.PAGE if name == "bars" else plots.COLUMN)
    own.savefig(tmp_path / "figure.png")  # lays it out
    drawn = own.get_tightbbox()
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= own.get_figwidth() + 0.01
    assert drawn.y1 <= own.get_figheight() + 0.01
    (ax, *_) = own.axes
    texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label, ax.yaxis.label]
    assert {text.get_fontsize() for text in texts} == {8.0}


def test_accuracy_matrix():
    ax = plots.plot_accuracy_matrix(R, names=["a", "b", "c"])
    (image,) = ax.images
    np.testing.assert_allclose(np.ma.filled(image.get_array(), NAN), 100 * R)
    assert image.get_clim() == (0, 100)
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    column, row = 0, 2
    assert shown[column, row] == "25"
    assert (2, 0) not in shown  # was not measured
    assert len(shown) == 8
    assert names(ax.xaxis) == names(ax.yaxis) == ["a", "b", "c"]
    assert labels(ax) == ("evaluated experience", "after training on experience")
    assert ax.figure.axes[1].get_ylabel() == "accuracy (%)"


def test_accuracy_matrix_of_joint_training_has_one_row():
    ax = plots.plot_accuracy_matrix(R[2:])
    assert names(ax.xaxis) == ["1", "2", "3"]
    assert names(ax.yaxis) == ["all"]


def test_accuracy_matrix_takes_the_metric():
    metric = AccuracyMatrix()
    metric._rows = [{0: 0.5}, {0: 0.25, 1: 1.0}]
    (image,) = plots.plot_accuracy_matrix(metric).images
    assert image.get_array().tolist() == [[50, None], [25, 100]]
    assert forgetting(metric) == 0.25
    assert new_task_accuracy(metric) == 1


def test_forgetting_curves():
    ax = plots.plot_forgetting(R)
    drawn = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.lines]
    assert drawn == [([1, 2, 3], [90, 50, 25]), ([2, 3], [80, 60]), ([3], [70])]
    assert legend(ax) == names(ax.xaxis) == ["1", "2", "3"]
    assert labels(ax) == ("after training on experience", "accuracy (%)")
    assert len({line.get_marker() for line in ax.lines}) == 3


@pytest.mark.parametrize("plot", [plots.plot_accuracy_matrix, plots.plot_forgetting])
def test_matrices_that_cannot_be_drawn(plot):
    with pytest.raises(ValueError, match=r"lie in \[0, 1\], got 90: divide percentages by 100"):
        plot(100 * R)
    with pytest.raises(ValueError, match="names must be 3, one for each experience, got 1"):
        plot(R, names=["a"])
    with pytest.raises(ValueError, match="two dimensions, this has shape"):
        plot([0.5])
    with pytest.raises(ValueError, match=r"shape \(2, 3\).* needs a row after each of the 3"):
        plots.plot_forgetting(R[:2])
    assert not pyplot.get_fignums()


def test_importance_by_layer():
    ax = plots.plot_importance_by_layer(IMPORTANCE)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([20, 80])
    assert names(ax.yaxis) == ["features.0", "classifier"]
    assert ax.yaxis_inverted()  # the network's first layer is above
    assert ax.get_xlabel() == "share of the importance (%)"

    ax = plots.plot_importance_by_layer({"MAS": IMPORTANCE, "LocalMAS": OTHER})
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([20, 80, 75, 25])
    assert legend(ax) == ["MAS", "LocalMAS"]
    centres = [bar.get_y() + bar.get_height() / 2 for bar in ax.patches]
    assert np.round(centres).tolist() == [0, 1, 0, 1]


def test_of_a_deep_network_the_layers_with_most_importance_are_shown():
    sums = [5.0, 1.0, 9.0, 2.0, 7.0]
    deep = Importance({f"{i}.weight": torch.tensor([x]) for i, x in enumerate(sums)}, samples=1)
    ax = plots.plot_importance_by_layer(deep, most=3)
    assert names(ax.yaxis) == ["0", "2", "4"]  # in the network's order
    assert ax.get_ylabel() == "2 layers with less are not shown"
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([500 / 24, 900 / 24, 700 / 24])
    with pytest.raises(ValueError, match="most must be positive, got 0"):
        plots.plot_importance_by_layer(deep, most=0)


def test_mean_importance_by_layer_has_its_error():
    ax = plots.plot_importance_by_layer(IMPORTANCE, quantity="mean")
    (bars,) = ax.containers
    assert bars.lines[0].get_xdata().tolist() == pytest.approx([8 / 5, 32])
    low, high = bars.lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((8 / 5 - 2.5 / 5, 8 / 5 + 2.5 / 5))
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "mean importance Ω ([‖F‖²] / [θ])"
    with pytest.raises(ValueError, match="'share' or 'mean', got 'max'"):
        plots.plot_importance_by_layer(IMPORTANCE, quantity="max")


def test_importance_histogram():
    ax = plots.plot_importance_histogram({"MAS": IMPORTANCE, "LocalMAS": OTHER}, bins=5)
    assert legend(ax) == ["MAS: 33.3 % are 0", "LocalMAS: 0 % are 0"]
    filled, outline, *_ = ax.patches
    values, edges, _ = outline.get_data()
    np.testing.assert_allclose(edges, 2.0 ** np.arange(6))  # five bins from 1 to 32
    np.testing.assert_allclose(values, 100 * np.array([1, 1, 1, 0, 1]) / 6)  # of 1, 3, 4 and 32
    assert filled.get_data()[0].tolist() == values.tolist()
    assert ax.get_xscale() == "log"
    assert labels(ax) == ("importance Ω ([‖F‖²] / [θ])", "parameters (% per bin)")
    assert ax.patches[1].get_linestyle() != ax.patches[3].get_linestyle()


@pytest.mark.parametrize("value", [1e-30, 1.0, 7e5])
def test_histogram_of_one_value(value):
    ax = plots.plot_importance_histogram(Importance({"w": torch.full((4,), value)}, 1))
    assert ax.patches[0].get_data()[0].sum() == pytest.approx(100)


def test_importances_that_cannot_be_drawn():
    for plot in (plots.plot_importance_by_layer, plots.plot_importance_histogram):
        for nothing in ({}, Importance({}, 0)):
            with pytest.raises(ValueError, match="there is no importance to draw"):
                plot(nothing)
    with pytest.raises(ValueError, match="every importance is 0"):
        plots.plot_importance_histogram(Importance({"w": torch.zeros(3)}, 1))
    with pytest.raises(ValueError, match="bins must be positive, got 0"):
        plots.plot_importance_histogram(IMPORTANCE, bins=0)
    assert not pyplot.get_fignums()


def test_task_bars():
    table = pd.DataFrame({"MAS": [80.0, 70.0], "SI": [60.0, NAN]}, index=["flowers", "birds"])
    ax = plots.plot_task_bars(table, errors=table / 10, label="drop (points)")
    bars = {container.get_label(): container for container in ax.containers if len(container) == 2}
    assert [bar.get_height() for bar in bars["MAS"]] == [80, 70]
    assert bars["SI"][0].get_height() == 60
    centres = [bar.get_x() + bar.get_width() / 2 for bar in (*bars["MAS"], *bars["SI"])]
    assert np.round(centres).tolist() == [0, 1, 0, 1]
    assert centres[0] < centres[2]
    whiskers = ax.collections[0].get_segments()
    assert [segment[:, 1].tolist() for segment in whiskers] == [[72, 88], [63, 77]]
    assert names(ax.xaxis) == ["flowers", "birds"]
    assert ax.get_ylabel() == "drop (points)"
    assert legend(ax) == ["MAS", "SI"]
    assert ax.get_ylim()[0] == 0
    assert plots.plot_task_bars({"MAS": [-1, 1]}).get_ylim()[0] < -1


def test_memory():
    ax = plots.plot_memory(MEMORY, ["a", "b"])
    assert [line.get_ydata().tolist() for line in ax.lines] == [[2, 2], [1, 4]]
    assert legend(ax) == ["MAS, LocalMAS", "modeIMM"]  # one line for what looks the same
    assert names(ax.xaxis) == ["a", "b"]
    assert labels(ax) == ("after task", "memory (MB)")
    assert plots.plot_memory({"a": [3e9, 1]}).get_ylabel() == "memory (GB)"
    assert plots.plot_memory({"a": [0, 0]}).get_ylabel() == "memory (bytes)"
    with pytest.raises(ValueError, match="must not be negative, got -1 bytes"):
        plots.plot_memory({"a": [-1, 5]})


@pytest.mark.parametrize("plot", [plots.plot_task_bars, plots.plot_memory])
def test_tables_that_cannot_be_drawn(plot):
    with pytest.raises(ValueError, match="nothing to draw: give a number for each task"):
        plot({})
    with pytest.raises(ValueError, match="2 numbers for each method, but names of 1 tasks: a"):
        plot({"MAS": [1, 2]}, ["a"])
    assert names(plot({"MAS": [1, 2]}).xaxis) == ["1", "2"]


def test_stability_and_plasticity():
    ax = plots.plot_stability_plasticity(FRONT)
    by_name = {
        line.get_label().split("\n")[0]: line.get_xydata().tolist()
        for line in ax.lines
        if line.get_markerfacecolor() != "white"
    }
    tril = np.tril(R)
    small, large = (
        [100 * forgetting(matrix), 100 * new_task_accuracy(matrix)] for matrix in (tril, R)
    )
    assert large == pytest.approx([100 * (0.65 + 0.2) / 2, 75])
    assert by_name["MAS"] == [small, large]  # in the order of λ
    assert by_name["my own"][0] == pytest.approx(np.mean([small, large], axis=0))
    opened = [line.get_xydata()[0] for line in ax.lines if line.get_markerfacecolor() == "white"]
    np.testing.assert_allclose(opened, [large, by_name["my own"][0]])
    assert legend(ax) == ["MAS\nλ = 0.1–10", "my own\nλ = 1"]
    assert labels(ax) == ("forgetting (points)", "accuracy on new tasks (%)")
    for nothing in ({}, {"MAS": {}}):
        with pytest.raises(ValueError, match="at least one λ of every method"):
            plots.plot_stability_plasticity(nothing)
    with pytest.raises(ValueError, match="a row for each of its 3 experiences"):
        plots.plot_stability_plasticity({"MAS": {1.0: R[:2]}})


def test_methods_can_be_told_apart():
    styles = plots.method_styles(METHODS)
    assert len({style.line["marker"] + style.line["linestyle"] for style in styles.values()}) == 15
    assert len({(style.color, style.hatch) for style in styles.values()}) == 15
    assert styles["MAS"] == plots.method_styles(["MAS"])["MAS"]
    own = plots.method_styles(["a", "MAS", "b"])
    assert list(own) == ["a", "MAS", "b"]
    assert len(set(own.values())) == 3
    assert len(plots.method_styles(map(str, range(40)))) == 40


def luminance(color):
    """Of light as the eye weighs it, from 0 to 1: what print in grey leaves of a colour."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    return np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92) @ (
        0.2126,
        0.7152,
        0.0722,
    )


def test_bars_of_one_grey_have_unlike_hatches():
    styles = list(plots.method_styles(METHODS).values())
    alike = [
        (a.color, b.color)
        for i, a in enumerate(styles)
        for b in styles[i + 1 :]
        if a.hatch == b.hatch and abs(luminance(a.color) - luminance(b.color)) < 0.03
    ]
    assert not alike


def test_lines_of_forgetting_get_lighter():
    ax = plots.plot_forgetting(np.full((8, 8), 0.5))
    tones = [luminance(to_hex(line.get_color())) for line in ax.lines]
    assert tones == sorted(tones)
    assert tones[-1] < 0.6  # still seen on white
