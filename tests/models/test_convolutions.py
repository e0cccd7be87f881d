"""Convolutions that train faster on a CPU: the numbers are those of ``nn.Conv2d``."""

import pytest
import torch
from torch import nn

from avalanche_mas.models.convolutions import Depthwise, Pointwise

DEPTHWISE = [  # kernel, stride, padding, height, width
    (5, 1, 2, 4, 4),
    (5, 1, 2, 2, 2),
    (3, 1, 1, 2, 2),
    (5, 2, 0, 7, 7),
    (3, 2, 1, 5, 6),
    (3, 3, 2, 4, 5),
    (1, 1, 0, 2, 3),
    (5, 1, 2, 1, 9),
    (3, 1, 1, 5, 5),  # too large: PyTorch's own
]


def passed(layer, x, use=lambda y: y.pow(3)):
    """Output and gradients, first and second order, of the same weights."""
    x = x.clone().requires_grad_()
    y = layer(x)
    inputs = [x, *layer.parameters()]
    first = torch.autograd.grad(use(y).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), inputs)
    return [y, *first, *second]


def same(layer, x):
    """Whether a layer gives the numbers of ``nn.Conv2d`` with its weights, in both modes."""
    sizes = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
    plain = nn.Conv2d(*sizes, groups=layer.groups).double()
    plain.load_state_dict(layer.state_dict())
    for mode in (True, False):
        layer.train(mode)
        for a, b in zip(passed(layer, x), passed(plain, x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width"), DEPTHWISE)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_depthwise(kernel, stride, padding, height, width, layout):
    torch.manual_seed(0)
    layer = Depthwise(6, 6, kernel, stride, padding, groups=6).double()
    x = torch.randn(3, 6, height, width, dtype=torch.float64)
    same(layer.to(memory_format=layout), x.to(memory_format=layout))


def test_pointwise():
    torch.manual_seed(0)
    layer = Pointwise(6, 4, 1).double()
    same(layer, torch.randn(3, 6, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize("layer", [Depthwise(6, 6, 3, 1, 1, groups=6), Pointwise(6, 6, 1)])
def test_a_part_may_be_frozen_and_autocast_is_pytorchs(layer):
    x = torch.randn(2, 6, 4, 4)
    layer.bias.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.bias.grad is None
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype is torch.bfloat16
    layer.weight.requires_grad_(False)
    assert not layer(x).requires_grad
