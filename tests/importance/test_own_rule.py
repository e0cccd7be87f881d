"""The page on adding a rule says what is so: its code runs, and its claims hold."""

import re
from pathlib import Path

import pytest
import torch
from judge import naive_importance, worst_error
from networks import module
from torch import nn

from avalanche_mas import check_model, estimate_importance, estimate_local_importance
from avalanche_mas.importance.rules import Dense, NoRule, registry, rule

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-rule.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(autouse=True)
def _only_the_packages_rules():
    """Rules are global: those of a test must not outlive it."""
    rules = dict(registry._rules)
    yield
    registry._rules.clear()
    registry._rules.update(rules)


@pytest.fixture
def page():
    """All that the page's code defines, once it has run."""
    names = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_the_code_of_the_page_runs(page):
    assert len(BLOCKS) == 4
    assert worst_error(page["exact"], naive_importance(page["model"], page["x"])) < 1e-10


@pytest.mark.parametrize("shape", [(9, 5), (9, 4, 5), (5, 5), (9, 2, 3, 5)], ids=str)
def test_its_rule_is_exact(page, shape):
    model, x = page["model"], torch.randn(shape, dtype=torch.float64)
    ours = estimate_importance(model, x, engine="exact", batch_size=4)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10
    assert (check_model(model, x).measured == "rule").all()


def test_its_rule_serves_vectors_and_local_importance(page):
    layer = page["RectifiedLayer"](4, 3).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    ours = estimate_importance(layer, x, output="vector", engine="exact")
    assert worst_error(ours, naive_importance(layer, x, output="vector")) < 1e-10
    local = estimate_local_importance(nn.Sequential(layer, nn.ReLU()), x)
    y = layer(x).relu().detach()
    truth = {"0.weight": torch.einsum("ko,ki->oi", y, x.relu()) / 6, "0.bias": y.mean(0)}
    assert worst_error(local, truth) < 1e-10


def test_it_refuses_what_it_does_not_cover(page):
    closed_form = registry.find_rule(page["rectified_linear"])
    x, parameters = torch.randn(2, 3), list(page["model"][1].parameters())
    call = registry.Call(page["rectified_linear"], (), {}, 3, {}, [])
    with pytest.raises(NoRule, match="does not depend on the samples"):
        closed_form(call, x, *parameters)
    call.axes[id(x)] = registry.Axis(dim=1, per_sample=1)
    with pytest.raises(NoRule, match="contracted"):
        closed_form(call, x, *parameters)


def test_a_wrong_rule_is_found_and_named(page):
    @rule(page["rectified_linear"])
    def wrong(call, x, weight, bias):
        def gradients(delta):
            yield bias, Dense(2 * delta.flatten(1, -2).sum(1))

        return gradients

    model, x = page["model"], page["x"]
    table = check_model(model, x)
    assert set(table.index[table.measured == "fallback"]) == {
        "1.weight", "1.bias", "3.weight", "3.bias"
    }  # fmt: skip
    assert table.reason["1.bias"] == "disagrees with the batch-size-1 loop"
    assert worst_error(estimate_importance(model, x), naive_importance(model, x)) < 1e-10


def test_a_function_made_of_torch_operations_needs_no_rule():
    def prototypes(x, centres, scale):
        return scale * (x @ centres.t() - centres.square().sum(1) / 2)

    parts = {"centres": nn.Parameter(torch.randn(3, 5)), "scale": nn.Parameter(torch.ones(3))}
    model = module(lambda self, x: prototypes(x, self.centres, self.scale), **parts).double()
    x = torch.randn(9, 5).double()
    assert not (check_model(model, x).measured == "fallback").any()
    ours = estimate_importance(model, x, engine="exact", batch_size=4)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10


def test_an_autograd_function_is_not_seen_by_itself(page):
    model = module(
        lambda self, x: page["RectifiedLinear"].apply(self.first(x), self.weight, self.bias),
        first=nn.Linear(5, 4),
        weight=nn.Parameter(torch.randn(3, 4)),
        bias=nn.Parameter(torch.zeros(3)),
    ).double()
    x = torch.randn(9, 5).double()
    measured = check_model(model, x).measured
    assert measured["weight"] == "fallback"
    assert worst_error(estimate_importance(model, x), naive_importance(model, x)) < 1e-10


@torch.library.custom_op("avalanche_mas_tests::scaled", mutates_args=())
def scaled(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x * scale


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, delta):
    x, scale = ctx.saved_tensors
    return delta * scale, (delta * x).sum(0)


scaled.register_autograd(_backward, setup_context=_save)


@pytest.mark.parametrize(
    "operation", [scaled, torch.ops.avalanche_mas_tests.scaled], ids=["object", "torch.ops"]
)
def test_custom_operations_are_reported_under_two_names(operation):
    packet = torch.ops.avalanche_mas_tests.scaled

    @rule(packet, packet.default)
    def scaled_rule(call, x, scale):
        x = call.samples(x)

        def gradients(delta):
            yield scale, Dense((delta * x).sum(1))

        return gradients

    model = module(
        lambda self, x: operation(torch.tanh(self.first(x)), self.scale),
        first=nn.Linear(5, 4),
        scale=nn.Parameter(torch.randn(4)),
    ).double()
    x = torch.randn(9, 5).double()
    assert check_model(model, x).measured["scale"] == "rule"
    ours = estimate_importance(model, x, engine="exact", batch_size=4)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10
