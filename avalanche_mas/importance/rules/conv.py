"""Convolutions of one to three dimensions: the weight gradient of one sample is a convolution too.

The library's own backward pass is asked for the weight gradient of each sample alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from avalanche_mas.importance.per_sample import Dense, PerSample
from avalanche_mas.importance.rules.registry import Call, Gradients, NoRule, rule

_Sizes = int | Sequence[int]


class Convolution(PerSample):
    """Weight gradients of a convolution.

    :param x: (B, m, C_in, ...), inputs; each sample holds m images.
    :param delta: (B, m, C_out, ...), gradient at the outputs.
    :param weight: the kernel, for its shape and layout.
    :param options: stride, padding, dilation, transposed, output padding and groups, as
        ``aten::convolution`` takes them.
    """

    def __init__(
        self, x: Tensor, delta: Tensor, weight: Tensor, options: tuple[object, ...]
    ) -> None:
        super().__init__(x.shape[0])
        self.x, self.delta, self.weight, self.options = x, delta, weight, options

    def dense(self, start: int, stop: int) -> Tensor:
        return torch.stack([self._sample(k) for k in range(start, stop)])

    def add_abs(self, total: Tensor) -> None:
        for k in range(self.size):
            total.add_(self._sample(k).abs_())

    def _sample(self, k: int) -> Tensor:
        gradient: Tensor = torch.ops.aten.convolution_backward(
            self.delta[k], self.x[k], self.weight, None, *self.options, [False, True, False]
        )[1]
        return gradient


def _rule(dims: int, transposed: bool) -> Callable[..., Gradients]:
    def convolution(
        call: Call,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: _Sizes,
        padding: _Sizes | str,
        dilation: _Sizes,
        groups: int,
        output_padding: _Sizes,
    ) -> Gradients:
        if input.dim() != dims + 2 or call.axis(input).dim != 0:
            raise NoRule("a convolution of an input that is no batch of images")
        x = call.samples(input)
        steps, gaps = _sizes(stride, dims), _sizes(dilation, dims)
        if isinstance(padding, str):
            x, pads = _resolve(padding, x, gaps, weight)
        else:
            pads = _sizes(padding, dims)
        options = (steps, pads, gaps, transposed, _sizes(output_padding, dims), groups)
        kernel = weight.detach()

        def gradients(delta: Tensor) -> Iterator[tuple[Tensor | None, PerSample]]:
            yield bias, Dense(delta.flatten(3).sum((1, 3)))
            yield weight, Convolution(x.to(kernel.dtype), delta.to(kernel.dtype), kernel, options)

        return gradients

    def forward(
        call: Call,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: _Sizes = 1,
        padding: _Sizes | str = 0,
        dilation: _Sizes = 1,
        groups: int = 1,
    ) -> Gradients:
        """Rule of ``F.conv{1,2,3}d``."""
        return convolution(call, input, weight, bias, stride, padding, dilation, groups, 0)

    def backward(
        call: Call,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: _Sizes = 1,
        padding: _Sizes = 0,
        output_padding: _Sizes = 0,
        groups: int = 1,
        dilation: _Sizes = 1,
    ) -> Gradients:
        """Rule of ``F.conv_transpose{1,2,3}d``."""
        return convolution(
            call, input, weight, bias, stride, padding, dilation, groups, output_padding
        )

    return backward if transposed else forward


def _sizes(value: _Sizes, dims: int) -> list[int]:
    sizes = [value] if isinstance(value, int) else list(value)
    return sizes * dims if len(sizes) == 1 else sizes


def _resolve(
    padding: str, x: Tensor, dilation: list[int], weight: Tensor
) -> tuple[Tensor, list[int]]:
    """``padding="same"`` and ``"valid"`` as numbers; an odd remainder goes to the far side."""
    dims = len(dilation)
    if padding == "valid":
        return x, [0] * dims
    totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if all(total % 2 == 0 for total in totals):
        return x, [total // 2 for total in totals]
    sides = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    return functional.pad(x, sides), [0] * dims


conv1d = rule(functional.conv1d)(_rule(1, transposed=False))
conv2d = rule(functional.conv2d)(_rule(2, transposed=False))
conv3d = rule(functional.conv3d)(_rule(3, transposed=False))
conv_transpose1d = rule(functional.conv_transpose1d)(_rule(1, transposed=True))
conv_transpose2d = rule(functional.conv_transpose2d)(_rule(2, transposed=True))
conv_transpose3d = rule(functional.conv_transpose3d)(_rule(3, transposed=True))
