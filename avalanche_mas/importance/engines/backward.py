"""δ for the rules, from backward passes that run only through activations.

The backward pass starts at the outputs. Where it passes an operation that has parameters, the
operation's rule turns (input, δ) into Σ_k |g_k| and both are forgotten again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from avalanche_mas.importance.engines.instrument import Measurement
from avalanche_mas.importance.engines.plan import REPEATING
from avalanche_mas.importance.engines.tracking import Operation, is_inplace
from avalanche_mas.importance.rules.per_sample import Dense
from avalanche_mas.importance.rules.registry import (
    Call,
    Gradients,
    NoRule,
    name_of,
    samples_back,
    samples_first,
)


class Backward(Measurement):
    """g = ∂‖F‖²/∂θ, whose backward pass starts from ∂‖F‖²/∂F = 2F (Eq. 2)."""

    _again = False  # whether the graph is needed for another backward pass

    @cached_property
    def anchor(self) -> Tensor:
        """A scalar that gives the graph its beginning, see :class:`_Entry`."""
        first = next(iter(self.parameters.values()))
        return torch.zeros((), device=first.device, requires_grad=True)

    def differentiate(self, outputs: list[Tensor]) -> None:
        """Measures every use, given what the forward pass has returned."""
        self.backward(outputs, [2 * output.detach() for output in outputs])
        self.finish()

    def backward(self, outputs: list[Tensor], starts: list[Tensor], *, again: bool = False) -> None:
        """One backward pass.

        :param starts: the gradient at each output.
        :param again: whether there will be another.
        """
        self._again = again
        torch.autograd.grad(outputs, [self.anchor], starts, retain_graph=again, allow_unused=True)

    def run(self, call: Call, gradients: Gradients) -> Any:
        held = [(call, gradients)]

        def receive(delta: Tensor) -> None:
            call, gradients = held[0]
            if not self._again:
                held.clear()  # autograd frees what it saved for this operation as well
            call.check_kept()
            axis = call.output_axes[0]
            if axis is None:
                return
            for parameter, per_sample in gradients(samples_first(delta, axis, self.size)):
                self.add(parameter, per_sample)

        args, kwargs = self.detach((call.args, call.kwargs))
        if not any(isinstance(t, Tensor) and t.requires_grad for t in tree_leaves((args, kwargs))):
            return _Entry.apply(self.anchor, receive, lambda: _own(call.function(*args, **kwargs)))
        output: Any = _own(call.function(*args, **kwargs))
        output.register_hook(receive)
        return output

    def vectorised(self, operation: Operation, call: Call) -> Any:
        """vmap over the samples of this one call, each with its own copy of the parameters."""
        if is_inplace(operation):
            raise NoRule("a parameter in an in-place operation")
        if all(axis is None for axis in call.output_axes):
            raise NoRule("a tensor computed from parameters alone")
        if not call.axes:
            return self._expanded(call)
        leaves, spec = tree_flatten((call.args, call.kwargs))
        own: list[Tensor] = []
        places: list[int] = []
        for place, leaf in enumerate(leaves):
            if self.find(leaf):
                own.append(self._replicas(leaf))
                places.append(place)
            elif isinstance(leaf, Tensor) and id(leaf) in call.axes:
                own.append(samples_first(leaf, call.axes[id(leaf)], self.size))
                places.append(place)

        def one(*sample: Tensor) -> list[Any]:
            filled = list(leaves)
            for place, value in zip(places, sample, strict=True):
                filled[place] = value
            args, kwargs = tree_unflatten(filled, spec)
            result = call.function(*args, **kwargs)
            structure.append(result)
            return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

        structure: list[Any] = []
        try:
            outputs = torch.func.vmap(one)(*own)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            message = str(error).partition("\n")[0]
            raise NoRule(f"vmap refuses it ({message})") from error
        values = iter(
            samples_back(output, axis) if axis else output[0]
            for output, axis in zip(outputs, call.output_axes, strict=True)
        )
        return tree_map(
            lambda leaf: next(values) if isinstance(leaf, Tensor) else leaf, structure[0]
        )

    def _expanded(self, call: Call) -> Any:
        """A parameter repeated for every sample, such as a class token."""
        parameters = [leaf for leaf in tree_leaves((call.args, call.kwargs)) if self.find(leaf)]
        args, kwargs = self.detach((call.args, call.kwargs))
        result, axis = call.function(*args, **kwargs), call.output_axes[0]
        if (
            len(parameters) != 1
            or not isinstance(result, Tensor)
            or axis is None
            or axis.per_sample != 1
            or name_of(call.function) not in REPEATING
            or result.select(axis.dim, 0).numel() != parameters[0].numel()
        ):
            raise NoRule("a parameter spread over the samples")
        one = result.select(axis.dim, 0).shape
        replicas = self._replicas(parameters[0]).clone()  # not the parameter's memory any more
        return replicas.reshape(self.size, *one).movedim(0, axis.dim)

    def _replicas(self, parameter: Tensor) -> Tensor:
        """One copy of a parameter for every sample: shape (B, *parameter), no memory."""
        copies: Tensor = _Entry.apply(
            self.anchor,
            lambda gradient: self.add(parameter, Dense(gradient)),
            lambda: parameter.detach().expand(self.size, *parameter.shape),
        )
        return copies


def _own(output: Tensor) -> Tensor:
    """Not a view: where what follows overwrites one (``ReLU(inplace=True)``), no δ reaches it."""
    return output.clone() if output._is_view() else output


class _Entry(torch.autograd.Function):
    """Where the graph begins: an operation none of whose inputs needs a gradient.

    ``anchor``, a scalar, gives the output its place in the graph, so that no gradient is ever
    computed for the network's input.
    """

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, receive: Callable[[Tensor], None], compute: Callable[[], Tensor]
    ) -> Tensor:
        ctx.receive = receive
        return compute()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.receive(gradients[0])
        return gradients[0].new_zeros((), dtype=torch.float32), None, None
