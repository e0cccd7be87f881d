"""F: a model, the way batches go through it, and its outputs as tensors with the samples first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_mas.importance.batches import Forward, batch_size_of
from avalanche_mas.importance.parameters import named_parameters


class Network(nn.Module):
    """The function F(x; θ) whose sensitivity is measured.

    :param model: the user's model, unwrapped.
    :param forward: how a batch goes through it.
    """

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self._forward = forward
        self.parameters_by_name = {
            name: parameter
            for name, parameter in named_parameters(model).items()
            if parameter.requires_grad and parameter.is_floating_point()
        }

    def trainable(self) -> dict[str, Tensor]:
        """The parameters to measure, by name.

        :raises ValueError: if there are none, or they have no values (on the meta device).
        """
        if not self.parameters_by_name:
            raise ValueError(
                "the model has no trainable floating-point parameters: there is nothing to "
                "measure. Importance is measured where requires_grad is True."
            )
        for name, parameter in self.parameters_by_name.items():
            if parameter.is_meta:
                raise ValueError(
                    f"parameter {name!r} is on the meta device, where it has no values: load the "
                    "model's weights first"
                )
        return dict(self.parameters_by_name)

    def forward(self, batch: Any) -> list[Tensor]:
        """Outputs of a batch: tensors whose first dimension counts samples.

        :raises TypeError, ValueError: if the output is no such thing.
        """
        return output_tensors(self._forward(self.model, batch), batch_size_of(batch))


def output_tensors(output: Any, size: int) -> list[Tensor]:
    """A model's output as a list of tensors, counted as one concatenated vector per sample.

    :param output: a tensor, or tensors in any nesting of tuples, lists and dicts (None is skipped).
    :param size: number of samples, the first dimension that each tensor must have.
    :raises TypeError: if there is no tensor in it, or one that is not floating point.
    :raises ValueError: if a tensor's first dimension is not ``size``.
    """
    tensors = list(_tensors(output))
    if not tensors:
        raise TypeError(f"the model returned {type(output).__name__} without any tensor in it")
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise TypeError(
                f"the model returned a tensor of {tensor.dtype}: importance is the sensitivity of "
                "a floating-point output. Pass forward= to choose the output to measure."
            )
        if tensor.dim() == 0 or tensor.shape[0] != size:
            raise ValueError(
                f"the model returned a tensor of shape {tuple(tensor.shape)} for {size} samples: "
                "the first dimension must count samples. Pass forward= to rearrange the output."
            )
    return tensors


def _tensors(output: Any, place: str = "") -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _tensors(value, f"{place}[{key!r}]")
    elif isinstance(output, (tuple, list)):
        for i, value in enumerate(output):
            yield from _tensors(value, f"{place}[{i}]")
    elif output is not None:
        where = f" at output{place}" if place else ""
        raise TypeError(
            f"the model returned a {type(output).__name__}{where}; expected tensors, or tuples, "
            "lists and dicts of them. Pass forward= to choose the output to measure."
        )


def squared_norm(outputs: list[Tensor]) -> Tensor:
    """‖F‖² summed over the samples of a batch, in at least float32 (0-d tensor)."""
    wide = [output if output.dtype == torch.float64 else output.float() for output in outputs]
    return torch.stack([output.square().sum() for output in wide]).sum()
