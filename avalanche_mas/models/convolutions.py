"""Convolutions of one channel or one pixel each, whose training is slow on a CPU in PyTorch.

Where pictures have shrunk to 4 × 4 or 2 × 2 pixels, more than half of a training step of
EfficientNet-Lite0 goes into the gradients of its 5 × 5 depthwise weights, at less than 1 GFLOP/s.
Both layers here give the same numbers, up to round-off, in a third of the time. In eval mode, and
so where importance is measured, they are ``nn.Conv2d`` itself.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

_POSITIONS = 16  # pixels of the output: where there are more, PyTorch's own is as fast or faster


class Depthwise(nn.Conv2d):
    """A square convolution of each channel by itself, without dilation."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv2d``."""
        if _is_trained_on_cpu(self, x):
            size, kernel = min(x.shape[2:]), self.kernel_size[0]
            side = (size + 2 * int(self.padding[0]) - kernel) // self.stride[0] + 1
            if side**2 <= _POSITIONS:
                y: Tensor = _Depthwise.apply(
                    x, self.weight, self.bias, self.stride[0], int(self.padding[0])
                )
                return y
        return super().forward(x)


class Pointwise(nn.Conv2d):
    """A convolution with a 1 × 1 kernel, which is a linear layer at each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv2d``."""
        if _is_trained_on_cpu(self, x):
            y = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
            return y.permute(0, 3, 1, 2)
        return super().forward(x)


def _is_trained_on_cpu(layer: nn.Conv2d, x: Tensor) -> bool:
    return (
        layer.training
        and layer.weight.requires_grad
        and x.device.type == "cpu"
        and x.dim() == 4
        and not torch.is_autocast_enabled("cpu")
    )


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose weight has its gradient summed offset by offset."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = conv2d_input(  # type: ignore[no-untyped-call]
                x.shape, weight, gradient, ctx.stride, ctx.padding, groups=len(weight)
            )
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(x, gradient, weight.shape[2], ctx.stride, ctx.padding)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None, None


def _weight_gradient(x: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Σ x · gradient over samples and pixels, for each offset between them.

    :return: shape (C, 1, kernel, kernel).
    """
    x, gradient = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    sums = []
    for dy in range(kernel):
        for dx in range(kernel):
            rows, y = _meeting(dy - padding, x.shape[1], gradient.shape[1], stride)
            columns, z = _meeting(dx - padding, x.shape[2], gradient.shape[2], stride)
            sums.append((gradient[:, rows, columns] * x[:, y, z]).sum((0, 1, 2)))
    return torch.stack(sums, 1).view(-1, 1, kernel, kernel)


def _meeting(offset: int, inputs: int, outputs: int, stride: int) -> tuple[slice, slice]:
    """Outputs o, and inputs o · stride + offset: those that are within the picture."""
    first = max(0, -(offset // stride))
    last = min(outputs - 1, (inputs - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)
