"""What a network is used for after it was trained: unlabelled samples that come piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from avalanche.models import MultiTaskModule
from torch import Tensor, nn

from avalanche_mas.importance import Importance
from avalanche_mas.importance.batches import Forward, batch_size_of, model_input, take, to_device
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.estimate import measuring
from avalanche_mas.importance.parameters import checksum, named_parameters, unwrap
from avalanche_mas.importance.watch import CallArguments, call_again
from avalanche_mas.plugins.base.state import State, importance_state, loaded_importance

Measure = Callable[[nn.Module, Any, Forward, int], Importance]
At = dict[str, tuple[tuple[int, ...], int | None]]
"""Parameters and buffers of numbers, by name: their shapes and checksums."""


class Observations:
    """One mean over the samples observed since the last task, and at which parameters it is.

    Samples that a network has seen at different parameters have no mean: they are about different
    functions. So a checksum of every parameter is kept, and of every running statistic.
    """

    def __init__(self) -> None:
        self.importance: Importance | None = None
        """Ω of all samples; None if there are none."""
        self._at: At = {}

    def check(self, model: nn.Module) -> None:
        """:raises ValueError: if the model has moved since the first sample was observed."""
        tensors = _tensors_of(model)
        for name, (shape, before) in self._at.items():
            tensor = tensors.get(name)
            if tensor is None or _checksum(tensor, shape) != before:
                raise ValueError(
                    f"{name!r} is not what it was when "
                    f"{self.importance.samples if self.importance else 0} samples were observed: "
                    "importance at different parameters has no common mean. Load the observed "
                    "parameters again, or drop the observations with forget_observed()."
                )

    def add(self, new: Importance, at: At) -> None:
        """Joins Ω of further samples, measured at the parameters that ``at`` tells of."""
        with torch.inference_mode(False), torch.no_grad():
            if self.importance is None:
                self._at = dict(at)
                self.importance = new
            else:
                self.importance = self.importance.merge(new)

    def state(self) -> State:
        """As plain values."""
        at = {name: [*shape, before] for name, (shape, before) in self._at.items()}
        return {"importance": importance_state(self.importance), "at": at}

    @classmethod
    def loaded(cls, state: Mapping[str, Any], model: nn.Module | None) -> Observations:
        """From such values."""
        made = cls()
        made.importance = loaded_importance(state["importance"], model)
        for name, (*shape, before) in state["at"].items():
            made._at[name] = tuple(shape), before
        return made


def parameters_of(model: nn.Module) -> At:
    """What a model computes with now."""
    return {
        name: (tuple(tensor.shape), _checksum(tensor, tuple(tensor.shape)))
        for name, tensor in _tensors_of(model).items()
    }


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    buffers = unwrap(model).named_buffers()
    floating = {name: buffer for name, buffer in buffers if buffer.is_floating_point()}
    return {**named_parameters(model), **floating}  # integers may count the passes


def _checksum(tensor: Tensor, shape: tuple[int, ...]) -> int | None:
    """Of the part of a tensor that was there when it had ``shape``; None where it cannot be."""
    if tensor.dim() != len(shape) or any(map(int.__gt__, shape, tensor.shape)):
        return None
    return checksum(tensor.detach()[tuple(slice(size) for size in shape)])


class Pieces:
    """A mean of separate measurements, for a method that has no running one.

    :param model: the model.
    :param measure: as :meth:`.MeasuredPlugin.measure`.
    """

    def __init__(self, model: nn.Module, measure: Measure) -> None:
        self.samples = 0
        self._model, self._measure = model, measure
        self._network = Network(model, call_again)
        self._importance: Importance | None = None

    def mark(self, batch: CallArguments) -> Any:
        """The batch, with what its samples share marked; it leaves no trace."""
        device = next(self._model.parameters()).device
        with measuring(self._model):
            return self._network.mark_shared(to_device(batch, device))

    def add_whole(self, batch: CallArguments) -> None:
        """Measures a batch, which leaves no trace."""
        new = self._measure(self._model, [batch], call_again, batch_size_of(batch))
        with torch.inference_mode(False):
            self._importance = self._importance.merge(new) if self._importance else new
        self.samples = self._importance.samples

    @property
    def importance(self) -> Importance:
        """Ω of everything that was added.

        :raises ValueError: if that is nothing.
        """
        if self._importance is None:
            raise ValueError("no samples have been measured, so there is no mean to take")
        return self._importance


def calls_for(
    model: nn.Module, x: Any, task_label: int | Tensor | None = None
) -> list[CallArguments]:
    """How samples go through a model.

    :param model: the model.
    :param x: a batch of samples: a tensor, a tuple ``(x, ...)``, or a dict of arguments.
    :param task_label: for a multi-task model: of all samples, or one for each; any other model is
        called without it, as Avalanche does.
    :raises ValueError: if a multi-task model is given none.
    :raises TypeError: for a batch of unknown form.
    """
    inputs = model_input(x)
    named = dict(inputs) if isinstance(inputs, Mapping) else {}
    args = () if named else (inputs,)
    if not isinstance(unwrap(model), MultiTaskModule):
        return [CallArguments(args, named)]
    if task_label is None:
        raise ValueError("the model has a head for each task: pass task_label, to say whose it is")
    return list(one_task_each(CallArguments(args, {**named, "task_labels": task_label})))


def one_task_each(batch: CallArguments) -> Iterator[CallArguments]:
    """A multi-task model's call, as calls with one task label for all samples, as an int.

    The outputs are the same, but for the padding of unequal heads.
    """
    named = "task_labels" in batch.kwargs
    labels = batch.kwargs["task_labels"] if named else (*batch.args[1:], None)[0]
    if not isinstance(labels, Tensor):
        yield batch
        return
    size = batch_size_of(batch)
    for label in torch.unique(labels).tolist():
        rows = torch.nonzero(labels == label).flatten()
        args, kwargs = take(batch, rows, size)
        if named:
            yield CallArguments(args, {**kwargs, "task_labels": label})
        else:
            yield CallArguments((args[0], label, *args[2:]), kwargs)
