"""``summary()``: importance by layer, its standard error, and what fell back to slow engines."""

import math

import numpy
import pandas
import pytest
import torch
from networks import build
from torch import nn

from avalanche_mas import Importance, estimate_importance, estimate_local_importance

COLUMNS = ["parameters", "mean", "error", "max", "share", "free", "fallback"]


def test_summary_against_numpy():
    shapes = {"body.0.weight": (4, 5), "body.0.bias": (4,), "scale": (3,)}
    a = Importance({name: torch.rand(shape).double() for name, shape in shapes.items()}, 3)
    table = a.summary(threshold=0.5)
    assert list(table.columns) == COLUMNS
    assert table.index.name == "layer"
    assert list(table.index) == ["body.0", "scale"]
    layer = numpy.concatenate([a["body.0.weight"].numpy().ravel(), a["body.0.bias"].numpy()])
    everything = numpy.concatenate([layer, a["scale"].numpy()])
    row = table.loc["body.0"]
    assert row["parameters"] == 24
    assert row["mean"] == pytest.approx(layer.mean())
    assert row["max"] == layer.max()
    assert row["share"] == pytest.approx(layer.sum() / everything.sum())
    assert row["free"] == pytest.approx((layer < 0.5 * everything.mean()).mean())
    assert 0 < row["free"] < 1
    assert table["share"].sum() == pytest.approx(1)


def test_summary_of_an_estimate():
    model, data = build("batchnorm2d")
    table = estimate_importance(model, data).summary()
    assert list(table.index) == ["0", "1", "3", "4"]
    assert table["parameters"].sum() == sum(p.numel() for p in model.parameters())
    assert table["share"].sum() == pytest.approx(1)


def test_summary_of_nothing():
    assert isinstance(Importance({}, 0).summary(), pandas.DataFrame)
    table = Importance({"w": torch.zeros(3), "empty": torch.zeros(0)}, 1).summary()
    assert table["share"].tolist() == [0, 0]
    assert not table.drop(columns="error").isna().any().any()
    assert table["error"].isna().all(), "of an importance made by hand nothing is known"


# --- standard errors ------------------------------------------------------------------------------


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def rows(samples, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, 6, dtype=torch.float64, generator=generator)


def by_hand(model, data, sizes, layer):
    """The textbook formula, from each batch's own mean importance."""
    means = []
    for batch in torch.split(data, sizes):
        omega = estimate_importance(model, batch)
        means.append(sum(float(omega[f"{layer}.{name}"].sum()) for name in ("weight", "bias")))
    n, means = numpy.array(sizes), numpy.array(means)
    mean = (n * means).sum() / n.sum()
    variance = (n * (means - mean) ** 2).sum() / (len(n) - 1)
    parameters = sum(p.numel() for p in model[layer].parameters())
    return math.sqrt(variance / n.sum()) / parameters


@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
def test_error_is_known_from_two_batches_on(estimate):
    model, data = linear(), rows(20)
    one, two = estimate(model, data), estimate(model, data, batch_size=10)
    assert one.summary()["error"].isna().all()
    assert (two.summary()["error"] > 0).all()
    assert list(two.standard_errors) == ["0", "2"]


def test_error_by_the_formula():
    model, data = linear(), rows(50)
    sizes = [7, 7, 20, 1, 15]
    table = estimate_importance(model, list(torch.split(data, sizes))).summary()
    for layer in (0, 2):
        expected = by_hand(model, data, sizes, layer)
        assert table.loc[str(layer), "error"] == pytest.approx(expected, rel=1e-9)


def test_error_is_the_scatter_of_repeated_estimates():
    """That is what it promises. Both sides are known to about seven per cent here."""
    model = linear()
    tables = [
        estimate_importance(model, rows(800, seed), batch_size=40).summary() for seed in range(100)
    ]
    means = pandas.concat([table["mean"] for table in tables], axis=1)
    promised = pandas.concat([table["error"] for table in tables], axis=1).mean(axis=1)
    ratio = means.std(axis=1) / promised
    assert ((ratio > 0.75) & (ratio < 1.25)).all()


def test_error_falls_with_the_samples_and_bounds_the_difference():
    model, data = linear(), rows(20_000)
    everything = estimate_importance(model, data, batch_size=500).summary()
    dataset = torch.utils.data.TensorDataset(data)
    few = estimate_importance(model, dataset, batch_size=10, max_samples=200).summary()
    more = estimate_importance(model, dataset, batch_size=10, max_samples=3200).summary()
    assert ((few["error"] / more["error"]) > 2.5).all()  # √16 = 4 but for chance
    for some in (few, more):
        assert (abs(some["mean"] - everything["mean"]) < 4 * some["error"]).all()


def test_a_sorted_dataset_does_not_spoil_the_error_of_a_subset():
    """max_samples takes its subset in random order, whatever the order of the data."""
    model, data = linear(), rows(4000)
    sorted_data = data[data.square().sum(1).argsort()]
    errors = [
        estimate_importance(
            model, torch.utils.data.TensorDataset(d), batch_size=20, max_samples=1000
        ).summary()["error"]
        for d in (data, sorted_data)
    ]
    assert (errors[1] / errors[0]).between(0.6, 1.6).all()


def test_errors_of_merged_and_added_estimates():
    model = linear()
    a, b = (estimate_importance(model, rows(n, n), batch_size=10) for n in (200, 600))
    merged, added = a.merge(b), a.add(b)
    averaged = a.add(b, decay=0.25)
    for layer in a.standard_errors:
        x, y = a.standard_errors[layer], b.standard_errors[layer]
        assert merged.standard_errors[layer] == pytest.approx(math.hypot(0.25 * x, 0.75 * y))
        assert added.standard_errors[layer] == pytest.approx(math.hypot(x, y))
        assert averaged.standard_errors[layer] == pytest.approx(math.hypot(0.25 * x, 0.75 * y))
    unknown = a.add(Importance(b, b.samples))
    assert unknown.standard_errors == {}, "the sum of a known and an unknown error is unknown"


def test_a_new_layer_brings_its_own_error():
    a = Importance({"body.w": torch.ones(2)}, 10, standard_errors={"body": 0.5})
    b = Importance({"head.w": torch.ones(2)}, 10, standard_errors={"head": 0.25})
    assert a.add(b).standard_errors == {"body": 0.5, "head": 0.25}


def test_errors_and_fallbacks_survive_a_file_and_a_move(tmp_path):
    model, data = build("branch_on_data")
    a = estimate_importance(model, data, batch_size=3)
    assert a.standard_errors
    assert a.fallbacks
    a.save(tmp_path / "a.safetensors")
    for b in (Importance.load(tmp_path / "a.safetensors"), a.to("cpu")):
        assert (b.standard_errors, b.fallbacks) == (a.standard_errors, a.fallbacks)


# --- fallbacks ------------------------------------------------------------------------------------


def test_summary_says_what_fell_back_and_why():
    table = estimate_importance(*build("custom_autograd_function")).summary()
    assert table["fallback"].str.contains("torch.autograd.Function").any()
    assert (table["fallback"] == "").any()
    everything = estimate_importance(*build("branch_on_data")).summary()
    assert everything["fallback"].str.contains("depends on the values").all()
    assert (estimate_importance(*build("batchnorm2d")).summary()["fallback"] == "").all()


def test_local_summary_says_what_has_no_layer():
    model, data = build("class_token_expanded")
    with pytest.warns(UserWarning, match="no layer"):
        omega = estimate_local_importance(model, data)
    assert omega.fallbacks
    for name in omega.fallbacks:
        assert not omega[name].any()
