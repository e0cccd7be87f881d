"""Multi-head attention, taken apart: its parameters are those of linear maps.

``F.multi_head_attention_forward`` is one call to a function with packed weights. Here it is written
as what it computes, so that each linear map in it meets the rule of
:mod:`~avalanche_mas.importance.rules.linear`. A learned bias of the scores, such as that of
relative positions, is added to them in the open.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from avalanche_mas.importance.rules.registry import NoRule, decomposition


@decomposition(functional.multi_head_attention_forward)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """(T, B, E) attends to (S, B, E); arguments as for torch's function of this name."""
    if query.dim() != 3 or static_k is not None or static_v is not None or (training and dropout_p):
        raise NoRule("attention of an unusual form")
    batch = query.shape[1]
    biases = in_proj_bias.chunk(3) if in_proj_bias is not None else (None,) * 3
    if use_separate_proj_weight:
        weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    elif in_proj_weight is None:
        raise NoRule("attention without weights")
    elif query is key and key is value:
        packed = functional.linear(query, in_proj_weight, in_proj_bias)
        q, k, v = packed.chunk(3, dim=-1)
        weights = None
    else:
        weights = in_proj_weight.chunk(3)
    if weights is not None:
        q, k, v = (
            functional.linear(x, w, b)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
    padded = 0
    if bias_k is not None and bias_v is not None:
        k, v = (torch.cat([t, b.repeat(1, batch, 1)]) for t, b in ((k, bias_k), (v, bias_v)))
        padded += 1
    if add_zero_attn:
        k, v = (torch.cat([t, t.new_zeros(1, *t.shape[1:])]) for t in (k, v))
        padded += 1
    # (length, batch, heads · d) → (batch, heads, length, d)
    q, k, v = (t.view(*t.shape[:2], num_heads, -1).permute(1, 2, 0, 3) for t in (q, k, v))
    mask = _mask(attn_mask, key_padding_mask, padded, batch, num_heads, q)
    if need_weights:
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        weight = (scores if mask is None else scores + mask).softmax(-1)
        attended = weight @ v
    else:
        attended = functional.scaled_dot_product_attention(q, k, v, mask)
    output = functional.linear(
        attended.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias
    )
    if not need_weights:
        return output, None
    return output, weight.mean(1) if average_attn_weights else weight


@decomposition(functional.scaled_dot_product_attention)
def with_learned_bias(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale · q kᵀ + bias) v; arguments as for torch's function of this name."""
    if attn_mask is None or attn_mask.dtype == torch.bool or dropout_p or is_causal or enable_gqa:
        raise NoRule("attention without a learned bias")
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return (scores + attn_mask).softmax(-1) @ value


def _mask(
    attention: Tensor | None,
    padding: Tensor | None,
    padded: int,
    batch: int,
    heads: int,
    like: Tensor,
) -> Tensor | None:
    """Both masks as one that is added to the scores, (batch or 1, heads or 1, T or 1, S)."""
    masks = []
    if attention is not None:
        shape = (batch, heads, *attention.shape[1:]) if attention.dim() == 3 else attention.shape
        masks.append(attention.reshape(shape))
    if padding is not None:
        masks.append(padding.view(batch, 1, 1, -1))
    total: Tensor | None = None
    for mask in masks:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
        mask = functional.pad(mask, (0, padded))
        total = mask if total is None else total + mask
    return total
