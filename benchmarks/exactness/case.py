"""A network to compare on, its samples, and how their batches are altered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

Batch = Tensor | dict[str, Tensor]
"""A model's argument, or its arguments by name; dimension 0 of every tensor counts samples."""

SAMPLES = 5
"""Of each case."""


@dataclass(frozen=True)
class Case:
    """A network and :data:`SAMPLES` samples for it.

    :param source: the library that it is from.
    :param name: what the library calls it.
    :param build: makes the network and the samples, both at random.
    """

    source: str
    name: str
    build: Callable[[], tuple[nn.Module, Batch]]

    def make(self) -> tuple[nn.Module, Batch]:
        """The network in float64 and eval mode, and its samples; always the same."""
        torch.manual_seed(0)
        model, batch = self.build()
        randomize(model)
        return model.double().eval(), to_dtype(batch, torch.float64)


def randomize(model: nn.Module) -> None:
    """Draw what initialisation leaves constant, such as zero biases, layer scales and statistics.

    A fault would be invisible where a gradient is zero.
    """
    with torch.no_grad():
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.normal_(0, 0.3)
                elif name == "running_var":
                    buffer.uniform_(0.5, 1.5)
        for parameter in model.parameters():
            if bool((parameter == parameter.flatten()[:1]).all()):
                parameter.normal_(float(parameter.flatten()[0] == 1), 0.2)


def to_dtype(batch: Batch, dtype: torch.dtype) -> Batch:
    """The batch with its floating-point tensors in another dtype."""
    return _map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, batch)


def rows(batch: Batch, samples: slice | list[int]) -> Batch:
    """Some samples of a batch."""
    return _map(lambda tensor: tensor[samples].clone(), batch)


def size(batch: Batch) -> int:
    """How many samples a batch has."""
    return len(batch if isinstance(batch, Tensor) else next(iter(batch.values())))


def concatenated(batches: Iterable[Batch]) -> Batch:
    """The samples of several batches in one."""
    joined: Batch = tree_map(lambda *tensors: torch.cat(tensors), *batches)
    return joined


def blank(batch: Batch) -> Batch:
    """A sample of zeros; of a sequence, all but the first position is padding."""
    zero = _map(torch.zeros_like, rows(batch, [0]))
    if isinstance(zero, dict):
        for name in zero:
            if name.endswith("mask"):
                zero[name][:, :1] = 1
    return zero


def trimmed(batch: Batch) -> Batch:
    """The samples without the last quarter of their last dimension: shorter or narrower."""
    return _map(lambda tensor: tensor[..., : -(-3 * tensor.shape[-1] // 4)].clone(), batch)


def _map(function: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    changed: Batch = tree_map(function, batch)
    return changed
