"""y_t = W[i_t]: ∂/∂W[v] = Σ of δ_t over the positions t of a sample at which v occurs.

In a bag, y = Σ_t w_t W[i_t], every position has δ_t = w_t δ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from avalanche_mas.importance.engines.objectives import Magnitude
from avalanche_mas.importance.rules.per_sample import PerSample
from avalanche_mas.importance.rules.registry import Call, Gradients, NoRule, rule

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


class Rows(PerSample):
    """Gradients that are zero except in the rows that a sample looked up.

    :param delta: (B, T, d), gradient at the looked-up rows.
    :param index: (B, T), which rows.
    :param rows: number of rows of the table.
    """

    def __init__(self, delta: Tensor, index: Tensor, rows: int) -> None:
        super().__init__(index.shape[0])
        self.delta, self.index, self.rows = delta, index, rows

    def dense(self, start: int, stop: int) -> Tensor:
        delta = self.delta[start:stop]
        summed = delta.new_zeros((stop - start) * self.rows, delta.shape[-1])
        summed.index_add_(0, self._keys(start, stop), delta.flatten(0, 1))
        return summed.view(stop - start, self.rows, -1)

    def add(self, total: Tensor, magnitude: Magnitude) -> None:
        # one row for every pair (sample, word) that occurs, instead of the whole table per sample;
        # sorted instead of torch.unique, which would make a GPU wait
        keys, order = self._keys(0, self.size).sort()
        first = torch.ones_like(keys)
        first[1:] = keys[1:] != keys[:-1]
        pair = first.cumsum(0) - 1
        summed = torch.zeros(len(keys), total.shape[1], dtype=total.dtype, device=total.device)
        summed.index_add_(0, pair, self.delta.flatten(0, 1)[order].to(total.dtype))
        row = torch.zeros_like(keys).scatter_(0, pair, keys % self.rows)
        total.index_add_(0, row, magnitude(summed, out=summed))

    def concatenated(self, others: Sequence[Self]) -> PerSample:
        uses = (self, *others)  # more positions that look up the same table
        delta, index = torch.cat([u.delta for u in uses], 1), torch.cat([u.index for u in uses], 1)
        return Rows(delta, index, self.rows)

    def _keys(self, start: int, stop: int) -> Tensor:
        sample = torch.arange(stop - start, device=self.index.device).unsqueeze(1)
        return (sample * self.rows + self.index[start:stop]).flatten()


@rule(functional.embedding)
def embedding(
    call: Call,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Gradients:
    """Rule of ``F.embedding``, which ``nn.Embedding`` calls."""
    if max_norm is not None or scale_grad_by_freq:
        raise NoRule("an embedding that depends on how often or how far it is used")
    index = call.samples(input).flatten(1)

    def gradients(delta: Tensor) -> Iterator[tuple[Tensor | None, PerSample]]:
        delta = delta.reshape(*index.shape, -1)
        if padding_idx is not None:
            padded = index == padding_idx % weight.shape[0]
            delta = delta.masked_fill(padded.unsqueeze(-1), 0)
        yield weight, Rows(delta, index, weight.shape[0])

    return gradients


@rule(functional.embedding_bag)
def embedding_bag(
    call: Call,
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Gradients:
    """Rule of ``F.embedding_bag``, which ``nn.EmbeddingBag`` calls, for bags of one length."""
    if max_norm is not None or scale_grad_by_freq:
        raise NoRule("an embedding that depends on how often or how far it is used")
    if input.dim() != 2 or call.axis(input).dim != 0:
        raise NoRule("bags that are not the rows of a matrix")
    index = call.samples(input)  # (B, bags, length)
    counts = torch.ones_like(index, dtype=weight.dtype)
    if padding_idx is not None:
        counts = counts.masked_fill(index == padding_idx % weight.shape[0], 0)
    table = weight.detach()
    weights = None if per_sample_weights is None else call.samples(per_sample_weights)

    def gradients(delta: Tensor) -> Iterator[tuple[Tensor | None, PerSample]]:
        share = counts.unsqueeze(-1)  # of δ, for every position of a bag: (B, bags, length, 1)
        if mode == "mean":
            share = share / share.sum(2, keepdim=True).clamp(min=1)
        elif mode == "max":
            values = table[index].masked_fill(share == 0, -torch.inf)
            first = values.argmax(2, keepdim=True)
            share = share * torch.zeros_like(values).scatter_(2, first, 1)
        elif weights is not None:
            share = share * weights.unsqueeze(-1)
        rows = (share * delta.unsqueeze(2)).flatten(1, 2)
        yield weight, Rows(rows, index.flatten(1), weight.shape[0])

    return gradients
