"""``check_model``: how each parameter will be measured, before any data are."""

import pytest
import torch
from networks import build
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from avalanche_mas import check_model, estimate_importance


def test_rules():
    table = check_model(*build("batchnorm2d"))
    assert table.index.name == "parameter"
    assert list(table.columns) == ["measured", "operations", "reason"]
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
        "flat.weight": "fallback",
        "flat.bias": "fallback",
    }
    assert table.loc["table", "operations"] == "einsum"
    assert "disagrees with the batch-size-1 loop" in table.loc["flat.weight", "reason"]
    assert (table["reason"] != "").sum() == 2


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
