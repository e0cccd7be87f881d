"""Convolutions of one to three dimensions: the weight gradient of one sample is a convolution too.

The library's own backward pass is asked for the weight gradient of each sample alone, or of several
small ones at once, each as a group of channels. Where there are many channels and few positions, as
at the end of most networks, that is slow; there each sample's gradient is the product of δ and the
patches that the kernel sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from avalanche_mas.importance.engines.objectives import Magnitude
from avalanche_mas.importance.rules.matmul import BLOCK_BYTES, add_magnitudes
from avalanche_mas.importance.rules.per_sample import Dense, PerSample, chunks
from avalanche_mas.importance.rules.registry import Call, Gradients, NoRule, rule

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

_Sizes = int | Sequence[int]

POSITIONS_PER_CHANNEL = 0.2
"""On a CPU, a map of so few positions, per output channel, is unfolded into patches."""

SMALL_BYTES = 1 << 20
"""On a CPU, samples whose input and δ take less than this are measured several at once."""


class Convolution(PerSample):
    """Weight gradients of a convolution.

    :param x: (B, m, C_in, ...), inputs; each sample holds m images.
    :param delta: (B, m, C_out, ...), gradient at the outputs.
    :param weight: the kernel, for its shape and layout.
    :param options: stride, padding, dilation, transposed, output padding and groups, as
        ``aten::convolution`` takes them.
    """

    def __init__(self, x: Tensor, delta: Tensor, weight: Tensor, options: tuple[Any, ...]) -> None:
        super().__init__(x.shape[0])
        self.x, self.delta, self.weight, self.options = x, delta, weight, options
        if x.device.type == "cpu" and options[-1] != 1:
            # With the channels last, a sample of a grouped convolution takes five times as long. An
            # empty kernel does, as only its shape and layout are asked for.
            self.x, self.delta = x.contiguous(), delta.contiguous()
            self.weight = torch.empty_like(weight, memory_format=torch.contiguous_format)

    def dense(self, start: int, stop: int) -> Tensor:
        if self._is_small():
            return self._side_by_side(start, stop)
        if self.x.device.type == "cpu":
            samples = zip(*map(_samples, (self.delta[start:stop], self.x[start:stop])), strict=True)
            return torch.stack([self._gradient(delta, x, self.weight) for delta, x in samples])
        gradients = torch.func.vmap(self._gradient, in_dims=(0, 0, None))
        return gradients(self.delta[start:stop], self.x[start:stop], self.weight)

    def add(self, total: Tensor, magnitude: Magnitude) -> None:
        if total.device.type != "cpu":
            return super().add(total, magnitude)
        if self._few_positions():
            rows = total.flatten(1)  # a copy, where its layout is channels last
            self._add_patches(rows, magnitude)
            if rows.data_ptr() != total.data_ptr():
                total.copy_(rows.view(total.shape))
            return None
        if self._is_small() and next(chunks(2, total)) == (0, 2):
            return super().add(total, magnitude)
        channels, samples = self._block(), _samples(self.x)
        whole = channels == len(total)
        deltas = [self.delta] if whole else torch.split(self.delta, channels, 2)
        totals, weights = torch.split(total, channels), torch.split(self.weight, channels)
        blocks = zip(totals, weights, deltas, strict=True)
        for block, weight, delta in blocks:  # the block stays in cache while all samples add to it
            for of_sample, x in zip(_samples(delta), samples, strict=True):
                gradient = self._gradient(of_sample, x, weight).to(total.dtype)
                block.add_(magnitude(gradient, out=gradient))

    def summed(self) -> PerSample:
        x, delta = self.x.flatten(0, 1).unsqueeze(0), self.delta.flatten(0, 1).unsqueeze(0)
        return Convolution(x, delta, self.weight, self.options)

    def concatenated(self, others: Sequence[Self]) -> PerSample | None:
        uses = (self, *others)  # more images for the same kernel
        if len({(use.x.shape[2:], str(use.options)) for use in uses}) > 1:
            return None
        x, delta = torch.cat([u.x for u in uses], 1), torch.cat([u.delta for u in uses], 1)
        return Convolution(x, delta, self.weight, self.options)

    def _is_small(self) -> bool:
        return self.x.device.type == "cpu" and self.x[0].nbytes + self.delta[0].nbytes < SMALL_BYTES

    def _side_by_side(self, start: int, stop: int) -> Tensor:
        """The gradients of several samples, each of which is a group of channels of its own."""
        # (n, m, C, ...) → (m, n·C, ...), with strides that say so
        delta, x = (
            t[start:stop].transpose(0, 1).reshape(-1).view(t.shape[1], -1, *t.shape[3:])
            for t in (self.delta, self.x)
        )
        n = x.shape[1] // self.x.shape[2]
        weight = self.weight.new_empty(n * len(self.weight), *self.weight.shape[1:])
        return self._gradient(delta, x, weight, n).view(n, *self.weight.shape)

    def _few_positions(self) -> bool:
        """Whether a product with the patches of the image takes less time than a convolution.

        Every position costs a patch to lay down, every output channel a kernel that the
        convolution's own backward pass prepares.
        """
        *_, transposed, _, groups = self.options
        positions = self.delta.shape[1] * self.delta[0, 0, 0].numel()
        plain = self.x.dim() == 5 and not transposed and groups == 1
        return plain and POSITIONS_PER_CHANNEL * self.delta.shape[2] >= positions

    def _add_patches(self, total: Tensor, magnitude: Magnitude) -> None:
        """The convolution as a linear map of patches (t, C_in·K), at all t positions of a sample.

        :param total: (C_out, C_in·K).
        """
        stride, padding, dilation, *_ = self.options
        kernel = list(self.weight.shape[2:])
        points = kernel == stride == [1, 1] and padding == [0, 0]  # the image itself
        for delta, x in zip(self.delta, self.x, strict=True):
            patches = (  # (m, C_in·K, t)
                x.flatten(2)
                if points
                else torch.ops.aten.im2col(x, kernel, dilation, padding, stride)
            )
            b = patches.transpose(0, 1).flatten(1).t()
            a = delta.flatten(2).transpose(0, 1).flatten(1)
            add_magnitudes(total, a.unsqueeze(0), b.unsqueeze(0), magnitude)

    def _block(self) -> int:
        """Output channels whose kernels fit the cache; all where they cannot be separated."""
        *_, transposed, _, groups = self.options
        blocks = self.weight.numel() * self.weight.element_size() * 2 // BLOCK_BYTES
        channels = len(self.weight)
        if transposed or groups != 1 or blocks < 2:
            return channels
        return max(16, -(-channels // blocks) // 16 * 16)

    def _gradient(self, delta: Tensor, x: Tensor, weight: Tensor, samples: int = 1) -> Tensor:
        *options, groups = self.options
        gradient: Tensor = torch.ops.aten.convolution_backward(
            delta, x, weight, None, *options, samples * groups, [False, True, False]
        )[1]
        return gradient


def _samples(images: Tensor) -> tuple[Tensor, ...]:
    """(B, m, C, ...) → B times (m, C, ...).

    Where m = 1 the first stride of a sample means nothing, but torch (2.15) guesses the memory
    format from it, and grouped convolutions then go wrong: it gets a sensible one.
    """
    if images.shape[1] == 1:
        first, _, *others = images.stride()
        images = images.as_strided(images.shape, (first, images[0].numel(), *others))
    return images.unbind()


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
