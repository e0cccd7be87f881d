"""Attention taken apart equals torch's own function, and its Ω equals the naive one."""

import itertools

import pytest
import torch
from judge import naive_importance, worst_error
from torch import nn
from torch.nn import functional

from avalanche_mas.importance import estimate_importance
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.parameters import zeros
from avalanche_mas.importance.rules.attention import attention

BATCH, TARGETS, SOURCES, WIDTH, HEADS = 5, 4, 3, 6, 2


def masks(kind):
    generator = torch.Generator().manual_seed(1)
    blocked = torch.rand(TARGETS, SOURCES, generator=generator) < 0.3
    blocked[:, 0] = False  # nobody may be left with nothing to attend to
    padding = torch.zeros(BATCH, SOURCES, dtype=torch.bool)
    padding[1:3, -1] = True
    weights = torch.randn(BATCH * HEADS, TARGETS, SOURCES, generator=generator).double()
    return {
        "none": {},
        "boolean": {"attn_mask": blocked},
        "added": {"attn_mask": torch.zeros(TARGETS, SOURCES).double().masked_fill(blocked, -3.0)},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": blocked, "key_padding_mask": padding},
        "per_head": {"attn_mask": weights},
    }[kind]


def module(**options):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(WIDTH, HEADS, **options).double().eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


OPTIONS = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 5, "vdim": 7},
]


@pytest.mark.parametrize(
    ("options", "mask", "need_weights", "average"),
    [
        (options, mask, need, average)
        for options, mask, need, average in itertools.product(
            OPTIONS,
            ["none", "boolean", "added", "padding", "both", "per_head"],
            [True, False],
            [True, False],
        )
        if need or average
    ],
)
def test_equals_torch(monkeypatch, options, mask, need_weights, average):
    layer = module(**options)
    torch.manual_seed(2)
    query = torch.randn(TARGETS, BATCH, WIDTH).double()
    key = torch.randn(SOURCES, BATCH, options.get("kdim", WIDTH)).double()
    value = torch.randn(SOURCES, BATCH, options.get("vdim", WIDTH)).double()
    arguments = {**masks(mask), "need_weights": need_weights, "average_attn_weights": average}
    expected, expected_weights = layer(query, key, value, **arguments)
    monkeypatch.setattr(functional, "multi_head_attention_forward", attention)
    output, weights = layer(query, key, value, **arguments)
    torch.testing.assert_close(output, expected)
    if need_weights:
        torch.testing.assert_close(weights, expected_weights)


class Attend(nn.Module):
    def __init__(self, layer, arguments):
        super().__init__()
        self.layer, self.arguments = layer, arguments

    def forward(self, x):
        return self.layer(x, x[:, :SOURCES], x[:, :SOURCES], **self.arguments)[0]


@pytest.mark.parametrize("options", OPTIONS[:5])
@pytest.mark.parametrize("mask", ["none", "boolean", "added"])
def test_importance_is_exact_and_needs_no_slow_engine(options, mask):
    model = Attend(module(**options, batch_first=True), masks(mask))
    x = torch.randn(BATCH, TARGETS, WIDTH).double()
    assert worst_error(estimate_importance(model, x), naive_importance(model, x)) < 1e-10
    network = Network(model, lambda model, batch: model(batch))
    engine = Exact(network, network.trainable())
    engine(x, zeros(engine.parameters))
    assert not engine.unruled
