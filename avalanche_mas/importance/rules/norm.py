"""y = γ x̂ + β with a normalised x̂: ∂/∂γ = Σ δ x̂ and ∂/∂β = Σ δ, over a sample's positions.

BatchNorm belongs here in eval mode, where it normalises with its running statistics. With the
statistics of the batch one sample's output would depend on the others, so there is no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from avalanche_mas.importance.rules.per_sample import Dense, PerSample
from avalanche_mas.importance.rules.registry import Call, Gradients, NoRule, rule


@rule(functional.batch_norm)
def batch_norm(
    call: Call,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Gradients:
    """Rule of BatchNorm in eval mode."""
    if training or running_mean is None or running_var is None:
        raise NoRule("batch norm with the statistics of the batch")
    if call.axis(input).dim != 0:
        raise NoRule("samples in another dimension than the first")
    x = call.samples(input)
    mean, variance = running_mean, running_var

    def gradients(delta: Tensor) -> Iterator[tuple[Tensor | None, PerSample]]:
        # Σ δ x̂ by the library's kernel, sample by sample: its operands stay in cache
        if delta.device.type == "cpu" and delta.dtype == x.dtype == mean.dtype:
            # which is wrong (torch 2.15) for a single sample where the two differ in memory format
            alike = delta.stride() == x.stride()
            d, a = (delta, x) if alike else (delta.contiguous(), x.contiguous())
            gamma, beta = zip(
                *(
                    torch.ops.aten.native_batch_norm_backward(
                        *(of_sample, sample, None, mean, variance, None, None),
                        *(False, eps, [False, True, True]),
                    )[1:]
                    for of_sample, sample in zip(d.unbind(), a.unbind(), strict=True)
                ),
                strict=True,
            )
            yield weight, Dense(torch.stack(gamma))
            yield bias, Dense(torch.stack(beta))
        else:
            broadcast = (-1,) + (1,) * (x.dim() - 3)
            normalised = (x - mean.view(broadcast)) * (variance + eps).rsqrt().view(broadcast)
            yield weight, Dense(_per_channel(delta * normalised))
            yield bias, Dense(_per_channel(delta))

    return gradients


@rule(functional.layer_norm)
def layer_norm(
    call: Call,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Gradients:
    """Rule of LayerNorm."""
    dims = len(normalized_shape)
    if call.axis(input).dim >= input.dim() - dims:
        raise NoRule("samples in a normalised dimension")
    return _affine(
        call,
        input,
        weight,
        bias,
        lambda x: functional.layer_norm(x, list(normalized_shape), eps=eps),
        lambda t: t.flatten(1, -dims - 1).sum(1),
    )


@rule(functional.rms_norm)
def rms_norm(
    call: Call,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Gradients:
    """Rule of RMSNorm."""
    dims = len(normalized_shape)
    if call.axis(input).dim >= input.dim() - dims:
        raise NoRule("samples in a normalised dimension")
    return _affine(
        call,
        input,
        weight,
        None,
        lambda x: functional.rms_norm(x, list(normalized_shape), eps=eps),
        lambda t: t.flatten(1, -dims - 1).sum(1),
    )


@rule(functional.group_norm)
def group_norm(
    call: Call,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Gradients:
    """Rule of GroupNorm."""
    if call.axis(input).dim != 0:
        raise NoRule("samples in another dimension than the first")
    return _affine(
        call,
        input,
        weight,
        bias,
        lambda x: functional.group_norm(x.flatten(0, 1), num_groups, eps=eps).view(x.shape),
        _per_channel,
    )


@rule(functional.instance_norm)
def instance_norm(
    call: Call,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Gradients:
    """Rule of InstanceNorm, with the statistics of each instance."""
    if not use_input_stats:
        return batch_norm(call, input, running_mean, running_var, weight, bias, eps=eps)
    if call.axis(input).dim != 0:
        raise NoRule("samples in another dimension than the first")
    return _affine(
        call,
        input,
        weight,
        bias,
        lambda x: functional.instance_norm(x.flatten(0, 1), eps=eps).view(x.shape),
        _per_channel,
    )


def _affine(
    call: Call,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    normalised: Callable[[Tensor], Tensor],
    reduce: Callable[[Tensor], Tensor],
) -> Gradients:
    x = call.samples(input)

    def gradients(delta: Tensor) -> Iterator[tuple[Tensor | None, PerSample]]:
        yield bias, Dense(reduce(delta))
        yield weight, Dense(reduce(delta * normalised(x)))

    return gradients


def _per_channel(t: Tensor) -> Tensor:
    """(B, m, C, ...) → (B, C)."""
    return t.flatten(3).sum((1, 3)) if t.dim() > 3 else t.sum(1)
