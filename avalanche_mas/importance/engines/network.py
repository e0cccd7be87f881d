"""F: a model, the way batches go through it, and its outputs as tensors with the samples first."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avalanche_mas.importance.batches import (
    Forward,
    batch_size_of,
    call_model,
    leaves_of,
    map_leaves,
    take,
    unmarked,
)
from avalanche_mas.importance.engines.looking import Answered, Functions, Looking, Way
from avalanche_mas.importance.engines.whose import Whose
from avalanche_mas.importance.guard import Guard, unwritten
from avalanche_mas.importance.parameters import measurable, named_parameters
from avalanche_mas.importance.shadow import Shadow

_TOGETHER = 2  # samples that show what is written to only where there are several


class Network:
    """The function F(x; θ) whose sensitivity is measured, with the model's own parameters.

    Every call runs a fresh shadow of the model, so that each pass begins in the same state and
    leaves none behind.

    :param model: the user's model, unwrapped.
    :param forward: how a batch goes through it; None for :func:`.call_model`.
    :raises ValueError: for a model that cannot be measured, see :class:`.Shadow`.
    """

    def __init__(self, model: nn.Module, forward: Forward | None = None) -> None:
        self.model = model
        self._shadow = Shadow(model)
        self.forward = forward or call_model
        self.writes_inputs: bool | None = None
        """Whether the model changes the tensors that it is given; None before the first call."""
        self._parameters: dict[str, Tensor] = {}
        self._looked = False
        self._keeps_graphs: bool | None = None
        self._whose = Whose(self)

    def trainable(self) -> dict[str, Tensor]:
        """The parameters to measure, by name.

        :raises ValueError: if there are none, or they have no values (on the meta device).
        """
        parameters = measurable(self.model)
        if not parameters:
            raise ValueError(
                "the model has no trainable floating-point parameters: there is nothing to "
                "measure. Importance is measured where requires_grad is True."
            )
        for name, parameter in parameters.items():
            if parameter.is_meta:
                raise ValueError(
                    f"parameter {name!r} is on the meta device, where it has no values: load the "
                    "model's weights first"
                )
        own = {name: self._shadow.parameter(parameter) for name, parameter in parameters.items()}
        self._parameters.update(own)
        return self._parameters

    def __call__(self, batch: Any) -> list[Tensor]:
        """Outputs of a batch: tensors whose first dimension counts samples.

        :raises TypeError, ValueError: if the output is no such thing.
        """
        return self.prepare(batch).run()

    def twin(self) -> nn.Module:
        """The model as it runs: a fresh shadow."""
        return self._shadow.fresh()

    def prepare(self, batch: Any) -> Prepared:
        """A forward pass that is ready to run: nothing is copied any more when it does."""
        return self._prepared(self.twin(), batch)

    def look(self, batch: Any, known: Container[Way] = ()) -> Looking:
        """What a pass over a batch asks about the samples' values.

        :param known: ways after which nothing more is asked: the pass ends there.
        """
        prepared = self.prepare(batch)
        looking = Looking(leaves_of(prepared.inputs), known)
        with suppress(Answered):
            with looking, Functions(looking):
                outputs = prepared.run()
            looking.reaching = looking.sources(outputs)
        return looking

    def _prepared(self, twin: nn.Module, batch: Any) -> Prepared:
        inputs = map_leaves(self._own, unmarked(batch))
        tensors = [leaf for leaf in leaves_of(inputs) if isinstance(leaf, Tensor)]
        return Prepared(self, twin, inputs, batch_size_of(batch), tensors)

    def _own(self, leaf: Any) -> Any:
        """A part of the inputs that may be written to, such as a graph's attributes."""
        if isinstance(leaf, Tensor):
            return leaf if self.writes_inputs is False else leaf.clone()
        with suppress(Exception):  # whatever cannot be copied
            return copy.deepcopy(leaf)
        return leaf

    def look_out(self, batch: Any) -> None:
        """Before anything is measured, lets samples through that show what the model writes to.

        Parameters that it writes to have copies in its place from then on, also in what
        :meth:`trainable` gave.
        """
        size = batch_size_of(batch)
        if self._looked or not size:
            return
        self._looked = True
        for number in sorted({1, min(size, _TOGETHER)}):
            self._look_out(take(batch, slice(0, number), size))

    def _look_out(self, few: Any) -> None:
        kept = [leaf.clone() for leaf in leaves_of(unmarked(few)) if isinstance(leaf, Tensor)]
        while True:
            prepared, guard = self.prepare(few), Guard(self._unwritten().values())
            with suppress(Exception), guard:  # which the engine will say
                self.forward(prepared.module, prepared.inputs)
            if not guard.written:
                break
            self._shadow.keep_own(guard.written)
            self.trainable()
        now = [leaf for leaf in leaves_of(prepared.inputs) if isinstance(leaf, Tensor)]
        if len(now) != len(kept) or not all(map(_same, now, kept)):
            self.writes_inputs = True

    def _unwritten(self) -> dict[str, nn.Parameter]:
        """The model's parameters for which no copies stand."""
        parameters = named_parameters(self.model)
        return {name: p for name, p in parameters.items() if self._shadow.parameter(p) is p}

    def guarded(self) -> AbstractContextManager[None]:
        """A context in which the model runs, and must not write to its parameters.

        :raises ValueError: when it ends, if it did so although :meth:`look_out` saw nothing of it.
        """
        return unwritten(named_parameters(self.model))

    def with_parameters(
        self, twin: nn.Module, theta: Mapping[str, Tensor], batch: Any
    ) -> list[Tensor]:
        """The same with other tensors in the place of parameters, for ``torch.func``.

        :param twin: a fresh :meth:`twin`; none can be made inside ``torch.func``.
        """
        module = _Called(self._prepared(twin, batch))
        names = {id(p): name for name, p in module.named_parameters()}
        replaced = {
            names[id(self._shadow.parameter(p))]: theta[name]
            for name, p in named_parameters(self.model).items()
            if name in theta
        }
        fixed = {name: p.detach() for name, p in module.named_parameters()}
        state = {**fixed, **dict(module.named_buffers()), **replaced}
        outputs: list[Tensor] = torch.func.functional_call(module, state, ())
        return outputs

    def keeps_graphs(self, sample: Any) -> bool:
        """Whether the model computes with what it has kept of a pass before, such as a weight.

        :meth:`with_parameters` does not reach the parameters from which that was computed.

        :param sample: a batch of one.
        """
        if self._keeps_graphs is None:
            own = self._parameters or self.trainable()
            theta = {name: p.detach().clone().requires_grad_() for name, p in own.items()}
            outputs = self.with_parameters(self.twin(), theta, sample)
            ends = [output.sum() for output in outputs if output.requires_grad]
            parameters = list(own.values())
            found: tuple[Tensor | None, ...] = ()
            if ends:
                found = torch.autograd.grad(ends, parameters, retain_graph=True, allow_unused=True)
            self._keeps_graphs = any(gradient is not None for gradient in found)
        return self._keeps_graphs

    def mark_shared(self, batch: Any) -> Any:
        """The batch, with what its samples share marked though it is as long, see :mod:`.whose`.

        :raises ValueError: if the network gives no answer, or a later batch another one.
        """
        self.look_out(batch)
        return self._whose.mark(batch)


@dataclass
class Prepared:
    """One forward pass of a network.

    :param module: the shadow that runs.
    :param inputs: what goes into it.
    :param size: number of samples.
    :param tensors: what of the inputs are tensors.
    """

    network: Network
    module: nn.Module
    inputs: Any
    size: int
    tensors: list[Tensor]

    def run(self) -> list[Tensor]:
        """The outputs, see :meth:`Network.__call__`."""
        versions = [tensor._version for tensor in self.tensors]
        try:
            output = self.network.forward(self.module, self.inputs)
        except ValueError as error:
            self._explain(error)
            raise
        written = versions != [tensor._version for tensor in self.tensors]
        if written and self.network.writes_inputs is False:
            raise ValueError(
                "the model writes to the tensors that it is given, but did not do so for the first "
                "samples: its input has been changed. Let forward() work on a copy."
            )
        self.network.writes_inputs = self.network.writes_inputs or written
        return output_tensors(output, self.size)

    def _explain(self, error: ValueError) -> None:
        for name, module in self.module.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                raise ValueError(
                    f"{name or 'the model'} is a BatchNorm without running statistics "
                    "(track_running_stats=False): also in eval mode it normalises over the batch, "
                    f"and a sample alone has no statistics ({error}). Importance is that of single "
                    "samples: use running statistics, GroupNorm or LayerNorm."
                ) from error


def _same(a: Tensor, b: Tensor) -> bool:
    return a.layout is b.layout is torch.strided and not a.is_nested and torch.equal(a, b)


class _Called(nn.Module):
    """A prepared pass as a module, whose parameters ``torch.func`` can replace."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__()
        self.model = prepared.module
        self._prepared = prepared

    def forward(self) -> list[Tensor]:
        return self._prepared.run()


def output_tensors(output: Any, size: int) -> list[Tensor]:
    """A model's output as a list of tensors, counted as one concatenated vector per sample.

    :param output: a tensor, or tensors in any nesting of tuples, lists and mappings. None is
        skipped, and so is what else has a name in a mapping: a cache, integers, the batch's loss.
    :param size: number of samples, the first dimension that each tensor must have.
    :raises TypeError: if there is no tensor in it, or one that is not floating point.
    :raises ValueError: if a tensor's first dimension is not ``size``.
    """
    tensors = list(_tensors(output))
    if not tensors:
        raise TypeError(
            f"the model returned {type(output).__name__} without any tensor of real numbers in it"
        )
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise TypeError(
                f"the model returned a tensor of {tensor.dtype}: importance is the sensitivity of "
                "a floating-point output. Pass forward= to choose the output to measure."
            )
        if tensor.dim() == 0 or tensor.shape[0] != size:
            raise ValueError(
                f"the model returned a tensor of shape {tuple(tensor.shape)} for {size} samples: "
                "the first dimension must count samples, which are the entries of the batch's "
                "first tensor. Pass forward= to rearrange the output, and put what all samples "
                "share behind what each has of its own."
            )
    return tensors


def _tensors(output: Any, place: str = "") -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            if key == "loss" and isinstance(value, Tensor) and value.dim() == 0:
                continue
            if isinstance(value, (Tensor, Mapping, tuple, list)):  # no cache, loss scale or name
                yield from filter(_can_be_real, _tensors(value, f"{place}[{key!r}]"))
    elif isinstance(output, (tuple, list)):
        for i, value in enumerate(output):
            yield from _tensors(value, f"{place}[{i}]")
    elif output is not None:
        where = f" at output{place}" if place else ""
        raise TypeError(
            f"the model returned a {type(output).__name__}{where}; expected tensors, or tuples, "
            "lists and dicts of them. Pass forward= to choose the output to measure."
        )


def _can_be_real(tensor: Tensor) -> bool:
    """Whether it is no tensor of integers or bools, such as the indices of chosen entries."""
    return tensor.is_floating_point() or tensor.is_complex()
