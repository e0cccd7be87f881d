"""Idioms of PyTorch programs on which engines for per-sample gradients are known to err."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, rnn
from torch.utils.checkpoint import checkpoint

from ..case import SAMPLES, Batch, Case

_MADE: dict[str, Callable[[], tuple[nn.Module, Batch]]] = {}


def cases() -> Iterator[Case]:
    """One for each idiom."""
    for name, build in _MADE.items():
        yield Case("idioms", name.replace("_", " ").strip(), build)


class _Module(nn.Module):
    """A module with the given parts, whose forward is a function of it and its arguments."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def _idiom(
    build: Callable[[], tuple[nn.Module, Batch]],
) -> Callable[[], tuple[nn.Module, Batch]]:
    _MADE[build.__name__] = build
    return build


def _free(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / 2)


def _words(*shape: int) -> Tensor:
    return torch.randint(1, 11, shape)


@_idiom
def time_major() -> tuple[nn.Module, Batch]:
    """(T·B, F): positions before samples."""

    def forward(self: Any, x: Tensor) -> Any:
        flat = x.transpose(0, 1).reshape(-1, x.shape[2])
        hidden: Tensor = torch.tanh(self.a(flat)).view(x.shape[1], x.shape[0], -1)
        return self.b(hidden).mean(0)

    return _Module(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 3)), torch.randn(SAMPLES, 6, 4)


@_idiom
def padding_left_out() -> tuple[nn.Module, Batch]:
    """Only positions that hold words are worked on, as with variable-length attention."""

    def forward(self: Any, words: Tensor) -> Any:
        mask = words != 0
        hidden = torch.tanh(self.layer(self.embedding(words[mask])))
        summed = hidden.new_zeros(len(words), 5).index_add(0, mask.nonzero()[:, 0], hidden)
        return self.head(summed)

    words = _words(SAMPLES, 4)
    words[:, 3] = 0
    words[3, 2], words[4, 3] = 0, 1  # as many as if all had three
    parts = {"embedding": nn.Embedding(11, 6), "layer": nn.Linear(6, 5), "head": nn.Linear(5, 3)}
    return _Module(forward, **parts), words


@_idiom
def packed_sequences() -> tuple[nn.Module, Batch]:
    """An LSTM over a PackedSequence."""

    def forward(self: Any, words: Tensor, length: Tensor) -> Any:
        packed = rnn.pack_padded_sequence(
            self.embedding(words), length.cpu().clamp(min=1), True, enforce_sorted=False
        )
        return self.head(self.lstm(packed)[1][0][0])

    parts = {"embedding": nn.Embedding(11, 6), "lstm": nn.LSTM(6, 5, batch_first=True)}
    batch = {"words": _words(SAMPLES, 6), "length": torch.tensor([6, 4, 1, 3, 2])}
    return _Module(forward, head=nn.Linear(5, 3), **parts), batch


@_idiom
def constant_that_grows_with_the_batch() -> tuple[nn.Module, Batch]:
    """Positions and a task label, expanded to the length of the batch."""

    def forward(self: Any, words: Tensor) -> Any:
        size, length = words.shape
        places = torch.arange(length).expand(size, length)
        hidden = torch.tanh(self.words(words) + self.places(places))
        return self.head(hidden.mean(1)) + self.task(self.now.expand(size))

    parts = {"words": nn.Embedding(11, 6), "places": nn.Embedding(8, 6)}
    model = _Module(forward, task=nn.Embedding(2, 3), head=nn.Linear(6, 3), **parts)
    model.register_buffer("now", torch.tensor([1]))
    return model, _words(SAMPLES, 7)


@_idiom
def branch_on_values() -> tuple[nn.Module, Batch]:
    """Another path for a batch that holds large values, asked for without a bool."""

    def forward(self: Any, x: Tensor) -> Any:
        hidden = self.layer(x)
        return self.head(torch.tanh(hidden * 3 if x[x > 2].numel() else hidden))

    x = torch.randn(SAMPLES, 4).clamp(max=1.9)
    x[-1, 0] = 3
    return _Module(forward, layer=nn.Linear(4, 4), head=nn.Linear(4, 3)), x


@_idiom
def writes_to_its_input() -> tuple[nn.Module, Batch]:
    """Normalises the batch in place."""

    def forward(self: Any, x: Tensor) -> Any:
        return self.layer(x.sub_(0.5).mul_(2.0))

    return _Module(forward, layer=nn.Linear(8, 4)), torch.rand(SAMPLES, 8)


@_idiom
def keeps_what_it_computed() -> tuple[nn.Module, Batch]:
    """A bias table that eval mode computes once."""

    def forward(self: Any, x: Tensor) -> Any:
        if "table" not in self.cache:
            self.cache["table"] = self.bias * 2
        return self.head(torch.tanh(self.layer(x) + self.cache["table"]))

    parts = {"layer": nn.Linear(6, 4), "head": nn.Linear(4, 2), "bias": _free(4)}
    return _Module(forward, cache={}, **parts), torch.randn(SAMPLES, 6)


class _Product(torch.autograd.Function):
    """x wᵀ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return gradients[0] @ w, gradients[0].t() @ x


@_idiom
def own_autograd_function() -> tuple[nn.Module, Batch]:
    """An operation that only its own backward knows; blank samples do not exercise it."""

    def forward(self: Any, x: Tensor) -> Any:
        return self.head(torch.tanh(_Product.apply(torch.relu(x), self.weight)))

    return _Module(forward, weight=_free(4, 5), head=nn.Linear(4, 3)), torch.randn(SAMPLES, 5)


@_idiom
def activation_checkpointing() -> tuple[nn.Module, Batch]:
    """A part of the forward pass that is computed again in the backward pass."""

    def forward(self: Any, x: Tensor) -> Any:
        return self.head(checkpoint(self.body, x, use_reentrant=False))

    body = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh())
    return _Module(forward, body=body, head=nn.Linear(4, 3)), torch.randn(SAMPLES, 5)


@_idiom
def channels_last_batch_norm() -> tuple[nn.Module, Batch]:
    """Where torch's own gradient is wrong at batch size one."""

    def forward(self: Any, x: Tensor) -> Any:
        tokens = self.batch_norm(self.conv(x)).flatten(2).transpose(1, 2)
        return self.head(self.layer_norm(tokens))

    parts = {"conv": nn.Conv2d(3, 5, 3), "batch_norm": nn.BatchNorm2d(5)}
    model = _Module(forward, layer_norm=nn.LayerNorm(5), head=nn.Linear(5, 3), **parts)
    return model, torch.randn(SAMPLES, 3, 6, 8)


@_idiom
def derived_weights() -> tuple[nn.Module, Batch]:
    """Weight norm, spectral norm and a low-rank product."""

    def forward(self: Any, x: Tensor) -> Any:
        return F.linear(torch.tanh(self.body(x)), self.u @ self.v)

    body = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(5, 6)),
        nn.Tanh(),
        parametrizations.spectral_norm(nn.Linear(6, 4)),
    )
    return _Module(forward, body=body, u=_free(3, 2), v=_free(2, 4)), torch.randn(SAMPLES, 5)


@_idiom
def weights_assembled_from_parameters() -> tuple[nn.Module, Batch]:
    """As adapters do it: written into a constant, by an own function, scaled in two places."""

    def forward(self: Any, x: Tensor) -> Any:
        spread = torch.zeros(8, 6, dtype=x.dtype)
        spread[[0, 3, 7, 2, 1, 5, 6, 4], [0, 1, 2, 3, 4, 5, 0, 1]] = self.entries
        hidden = torch.tanh(F.linear(x, spread))
        scale = self.magnitude / 2
        added = F.linear(hidden, _Product.apply(self.u, self.v))
        return (scale - 1) * F.linear(hidden, self.base) + scale * added

    parts = {"entries": _free(8), "magnitude": _free(4), "u": _free(4, 2), "v": _free(8, 2)}
    return _Module(forward, base=_free(4, 8), **parts), torch.randn(SAMPLES, 6)


@_idiom
def tied_embedding() -> tuple[nn.Module, Batch]:
    """The word embedding, scaled, is also the output layer."""

    def forward(self: Any, words: Tensor) -> Any:
        hidden = torch.tanh(self.body(self.embedding(words) * 8**0.5))
        return F.linear(hidden, self.embedding.weight, self.bias)

    parts = {"embedding": nn.Embedding(11, 8), "body": nn.Linear(8, 8), "bias": _free(11)}
    return _Module(forward, **parts), _words(SAMPLES, 4)


@_idiom
def sparse_embedding_bag() -> tuple[nn.Module, Batch]:
    """Embeddings with sparse gradients."""

    def forward(self: Any, words: Tensor) -> Any:
        return self.head(torch.tanh(self.bag(words) + self.embedding(words).sum(1)))

    parts = {
        "bag": nn.EmbeddingBag(11, 5, sparse=True),
        "embedding": nn.Embedding(11, 5, sparse=True),
    }
    return _Module(forward, head=nn.Linear(5, 3), **parts), _words(SAMPLES, 4)


@_idiom
def gradient_inside_forward() -> tuple[nn.Module, Batch]:
    """One step of an inner loop, as in meta-learning; on each sample alone."""

    def forward(self: Any, x: Tensor) -> Any:
        with torch.enable_grad():
            fast = self.weight.expand(len(x), 3, 3)
            loss = torch.bmm(x.unsqueeze(1), fast).square().sum()
            (step,) = torch.autograd.grad(loss, fast, create_graph=True)
        return torch.bmm(x.unsqueeze(1), fast - 0.1 * step).squeeze(1)

    return _Module(forward, weight=_free(3, 3)), torch.randn(SAMPLES, 3)


@_idiom
def attention_over_time_major() -> tuple[nn.Module, Batch]:
    """nn.MultiheadAttention with a padding mask, positions first."""

    def forward(self: Any, words: Tensor) -> Any:
        x = self.embedding(words).transpose(0, 1)
        padding = (words == 0) & (torch.arange(words.shape[1]) > 0)
        attended, _ = self.attention(x, x, x, key_padding_mask=padding)
        return self.head(attended.mean(0))

    words = _words(SAMPLES, 6)
    words[1, 3:] = words[4, 1:] = 0
    parts = {"embedding": nn.Embedding(11, 8), "attention": nn.MultiheadAttention(8, 2)}
    return _Module(forward, head=nn.Linear(8, 3), **parts), words


@_idiom
def one_output_without_a_dimension() -> tuple[nn.Module, Batch]:
    """A regression whose output is (B,)."""
    layers = nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)
    return nn.Sequential(*layers), torch.randn(SAMPLES, 5)
