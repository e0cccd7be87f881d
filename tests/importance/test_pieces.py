"""Pieces of a batch and blocks of a gradient bound memory and change nothing."""

import pytest
import torch
from judge import naive_importance, worst_error
from torch import nn

from avalanche_mas.importance import estimate_importance, estimate_local_importance
from avalanche_mas.importance.engines import plan
from avalanche_mas.importance.rules import conv, matmul, per_sample


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 40, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(40, 50, 3),
        nn.BatchNorm2d(50),
        nn.ReLU(),
        nn.Flatten(2),
        nn.Linear(4, 70),
        nn.LayerNorm(70),
        nn.ReLU(),
        nn.Linear(70, 3),
    ).double()


X = torch.randn(9, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


SIZES = []  # global: what a hook's closure holds is copied with the network it is measured on


def note_size(module, inputs):
    SIZES.append(len(inputs[0]))


def largest_batch(network, estimate):
    SIZES.clear()
    handle = network[0].register_forward_pre_hook(note_size)
    estimate()
    handle.remove()
    return max(SIZES)


@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
def test_pieces(monkeypatch, estimate):
    network = model()
    whole = estimate(network, X)
    assert largest_batch(network, lambda: estimate(network, X)) == 9
    sample = 40 * 8 * 8 * 8  # bytes of the largest activation
    monkeypatch.setattr(plan, "ACTIVATION_BYTES", 4 * sample)
    assert worst_error(estimate(network, X), whole) < 1e-10
    assert largest_batch(network, lambda: estimate(network, X)) == 3  # 9 samples in three pieces


def test_blocks(monkeypatch):
    network = model()
    truth = naive_importance(network.eval(), X)
    for module in (matmul, conv):
        monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(per_sample, "CACHED_BYTES", 1 << 12)
    assert worst_error(estimate_importance(network, X), truth) < 1e-10


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_few_positions(layout):
    """Where a product with patches measures them, of points too; and channels by themselves."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 80, 3, stride=2),
        nn.Tanh(),
        nn.Conv2d(80, 80, 2, groups=80),
        nn.Conv2d(80, 90, 1),
        nn.Tanh(),
        nn.Conv2d(90, 30, 2),
    )
    network = network.double().to(memory_format=layout)
    x = torch.randn(4, 3, 7, 7, dtype=torch.float64).contiguous(memory_format=layout)
    truth = naive_importance(network.eval(), x)
    omega = estimate_importance(network, x)
    assert worst_error(omega, truth) < 1e-10
    assert not omega.fallbacks


@pytest.mark.parametrize(("activation", "merged"), [(nn.ReLU, True), (nn.Tanh, False)])
def test_samples_of_one_sign_are_merged_only_where_they_are(monkeypatch, activation, merged):
    """Behind a ReLU no two gradients have opposite signs; behind a tanh they have."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(1, 3, 3), activation(), nn.Conv1d(3, 4, 2), nn.ReLU())
    network.double()
    x = torch.randn(6, 1, 9, dtype=torch.float64)
    calls = []
    original = conv.Convolution.summed
    monkeypatch.setattr(conv.Convolution, "summed", lambda self: calls.append(1) or original(self))
    omega = estimate_local_importance(network, x)
    assert bool(calls) == merged
    y, layer = network[1](network[0](x)).detach(), network[2]
    expected = torch.zeros_like(layer.weight)
    for k in range(6):
        value = torch.relu(layer(y[k : k + 1])).square().sum() / 2
        expected += torch.autograd.grad(value, layer.weight)[0].abs() / 6
    torch.testing.assert_close(omega["2.weight"], expected, rtol=1e-10, atol=1e-14)
