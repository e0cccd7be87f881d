"""``check_model``: how each parameter will be measured, before any data are."""

import re
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from networks import build
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from avalanche_mas import check_model, estimate_importance
from avalanche_mas.importance.rules import registry


@pytest.mark.filterwarnings("ignore:the running statistics")
def test_rules():
    table = check_model(*build("batchnorm2d"))
    assert table.index.name == "parameter"
    assert list(table.columns) == ["measured", "operations", "reason", "passes", "sample_bytes"]
    assert (table["measured"] == "rule").all()
    assert (table["reason"] == "").all()
    assert table.loc["0.weight", "operations"] == "conv2d"
    assert table.loc["1.bias", "operations"] == "batch_norm"


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 4)
        self.table = nn.Parameter(torch.randn(4, 4, 3))
        self.normed = weight_norm(nn.Linear(3, 3))
        self.flat = nn.Linear(3, 3)
        self.never = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        x = torch.einsum("bi,ijk,bj->bk", self.layer(x), self.table, torch.tanh(self.layer(x)))
        x = self.normed(x)
        doubled = torch.stack([x, x.flip(0).flip(0)], 1).transpose(0, 1).reshape(-1, 3)
        return self.flat(doubled).view(2, len(x), 3).transpose(0, 1)


def test_each_way_is_named():
    torch.manual_seed(0)
    table = check_model(Mixed(), torch.randn(4, 5))
    assert table["measured"].to_dict() == {
        "table": "vmap",
        "never": "unused",
        "layer.weight": "rule",
        "layer.bias": "rule",
        "normed.bias": "rule",
        "normed.parametrizations.weight.original0": "rule",
        "normed.parametrizations.weight.original1": "rule",
        "flat.weight": "rule",
        "flat.bias": "rule",
    }
    assert table.loc["table", "operations"] == "einsum"
    assert (table["reason"] == "").all()


def test_agrees_with_what_the_estimate_says():
    model, data = Mixed(), torch.randn(4, 5)
    table = check_model(model, data)
    assert estimate_importance(model, data).fallbacks == {
        name: reason for name, reason in table["reason"].items() if reason
    }


def test_forms_of_example():
    model, x = nn.Linear(5, 2), torch.randn(3, 5)
    for example in (x, (x, torch.zeros(3)), [x, torch.zeros(3), torch.zeros(3)]):
        assert (check_model(model, example)["measured"] == "rule").all()
    table = check_model(model, {"a": x}, forward=lambda m, batch: m(batch["a"]))
    assert (table["measured"] == "rule").all()


@pytest.mark.filterwarnings("ignore:the running statistics")
def test_leaves_no_trace():
    model, data = build("batchnorm2d")
    model.train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = torch.get_rng_state()
    check_model(model, data)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_errors():
    with pytest.raises(ValueError, match=r"1 samples.*two or more"):
        check_model(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="no trainable"):
        check_model(nn.ReLU(), torch.zeros(2, 2))
    with pytest.raises(TypeError, match="forward="):
        check_model(nn.Linear(2, 2), [["text"]])


# --- what it costs --------------------------------------------------------------------------------


def test_costs_are_counted():
    """In passes and bytes, which are those of the example: no time is taken."""
    x = torch.randn(4, 5)
    table = check_model(Mixed(), x)
    assert table.loc["layer.weight", ["passes", "sample_bytes"]].tolist() == [1, 0]
    assert table.loc["table", ["passes", "sample_bytes"]].tolist() == [1, 4 * 4 * 3 * 4]
    assert table.loc["flat.weight", ["passes", "sample_bytes"]].tolist() == [1, 0]
    table = check_model(*build("custom_autograd_function"))  # which vmap refuses: 9 samples
    assert table["passes"].to_dict() == {
        "scale": 10, "layer.weight": 1, "layer.bias": 1, "head.weight": 1, "head.bias": 1
    }  # fmt: skip
    assert table.loc["scale", "sample_bytes"] == 0
    assert (check_model(*build("branch_on_data"))["passes"] == 9).all()  # no pass by rules at all


# --- where importance would not mean what it should -----------------------------------------------


def after(function):
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4), Applied(function))


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def normalised_by_batch():
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    return nn.Sequential(nn.Unflatten(1, (5, 1, 1)), nn.Conv2d(5, 3, 1), nn.Upsample(2), norm)


DOUBTFUL = {
    # what is wrong: (model, words of the warning)
    "running statistics": (
        lambda: nn.Sequential(nn.Linear(5, 4), *[nn.BatchNorm1d(4) for _ in range(5)]),
        r"running statistics of '1', '2', '3' and 2 more are not parameters.*GroupNorm",
    ),
    "dropout left on": (lambda: after(F.dropout), r"different outputs.*dropout"),
    "noise": (lambda: after(lambda y: y + torch.randn(1)), "different outputs"),
    "a constant": (lambda: after(lambda y: 0 * y + 1), "the same for all samples"),
    "softmax": (lambda: after(lambda y: y.softmax(1)), "output looks like that of a softmax"),
    "log_softmax": (lambda: after(lambda y: y.log_softmax(1)), "like that of a log_softmax"),
    "softmax of pixels": (
        lambda: after(lambda y: y.view(-1, 2, 2).softmax(1)), "output looks like that of a softmax",
    ),
    "unit length": (lambda: after(F.normalize), r"same length for all samples.*output='vector'"),
    "no gradient": (lambda: after(torch.detach), "every importance is zero"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTFUL)
def test_warnings(name):
    make, words = DOUBTFUL[name]
    with pytest.warns(UserWarning, match=f"(?s){words}") as caught:
        check_model(make(), torch.randn(6, 5))
    assert caught[0].filename == __file__
    assert len(caught) == 1 + (name == "a constant")  # whose importance is zero as well


def test_a_batch_that_is_normalised_as_a_whole():
    with pytest.warns(UserWarning, match="'3' normalise over the batch in eval mode"):
        check_model(normalised_by_batch(), torch.randn(6, 5))


@pytest.mark.parametrize(
    "name", ["mlp", "dropout", "layernorm", "gated", "lstm", "tuple_output", "embedding"]
)
def test_no_warning_where_all_is_well(name):
    model, data = build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_model(model, data)


def test_examples_that_are_all_alike_prove_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_model(after(torch.sin), torch.ones(3, 5))


def test_what_is_not_finite():
    x = torch.randn(6, 5)
    x[2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"'0\.weight' is not finite: sample 2 of batch 0"):
        check_model(after(torch.sin), x)


def test_the_page_of_supported_layers_lists_every_rule():
    page = Path(__file__).parents[2] / "docs" / "supported-layers.md"
    listed = re.findall(r"`(\w+)`", page.read_text(encoding="utf-8"))
    ours = {**registry._rules, **registry._decompositions}.items()
    rules = {
        registry.name_of(function)
        for function, closed_form in ours
        if closed_form.__module__.startswith("avalanche_mas.")  # tests add others
    }
    assert len(rules) > 20
    parts = {"__matmul__", "known_linear"}  # of what is listed
    assert rules - parts <= set(listed)
