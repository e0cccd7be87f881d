"""Global MAS, Eq. 2: Ω = (1/N) Σ_k |∂‖F(x_k; θ)‖²/∂θ|, exact and for a whole batch at once.

The backward pass starts from ∂‖F‖²/∂F = 2F and runs only through activations. Where it passes an
operation that has parameters, the operation's rule turns (input, δ) into Σ_k |g_k| and both are
forgotten again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from avalanche_mas.importance import reference
from avalanche_mas.importance.batches import batch_size_of
from avalanche_mas.importance.measuring import Diverged, Measurement
from avalanche_mas.importance.network import Network
from avalanche_mas.importance.per_sample import Dense
from avalanche_mas.importance.planned import PlannedEngine, disagreeing, zeros
from avalanche_mas.importance.planning import REPEATING, Plan
from avalanche_mas.importance.rules.registry import (
    Call,
    Gradients,
    NoRule,
    name_of,
    overlaps_itself,
    samples_back,
    samples_first,
)


class Exact(PlannedEngine):
    """The engine ``exact``: adds Σ_k |g_k| of each batch it is called with.

    Plans are checked against :func:`reference.loop`. Parameters that an operation without rule
    uses, or for which the two disagree, are measured by vmap, or by the loop where vmap refuses;
    none is skipped.

    :param network: F.
    :param parameters: canonical name → parameter to measure.
    """

    def __init__(self, network: Network, parameters: dict[str, Tensor]) -> None:
        super().__init__(network, parameters)
        self._slow = reference.VmapOrLoop(network, parameters)
        for name, parameter in parameters.items():
            strides = torch.empty_like(parameter, device="meta").stride()
            if overlaps_itself(parameter) or strides != parameter.stride():
                self.unruled[name] = "its memory is not dense"

    def measure(self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor]) -> bool:
        """One forward pass, one backward pass through activations, and the slow engines' rest."""
        if len(self.unruled) < len(self.parameters):
            first = next(iter(self.parameters.values()))
            anchor = torch.zeros((), device=first.device, requires_grad=True)
            measurement = _Backward(self.parameters, plan, size, total, self.unruled, anchor)
            try:
                with measurement:
                    outputs = self.network(batch)
                measurement.check_complete()
            except Diverged:
                return False
            outputs = [output for output in outputs if output.requires_grad]
            if outputs:
                starts = [2 * output.detach() for output in outputs]
                torch.autograd.grad(outputs, [anchor], starts, allow_unused=True)
            measurement.finish()
        self._measure_slowly(self.unruled, batch, total)
        return True

    def check(self, plan: Plan, few: Any) -> None:
        """Compares with the loop."""
        ours, loops = zeros(self.parameters), zeros(self.parameters)
        reference.loop(self.network, self.parameters, few, loops)
        reason = "the network looks at values, so that samples may not go the same way"
        if not plan.looks_at_values:
            try:
                if self.measure(plan, few, batch_size_of(few), ours):
                    for name in disagreeing(ours, loops, self.parameters):
                        self.unruled.setdefault(name, "disagrees with the batch-size-1 loop")
                return
            except (
                RuntimeError
            ) as error:  # such as activation checkpointing, which runs layers again
                reason = str(error).partition("\n")[0]
        self.unruled |= {name: reason for name in self.parameters if name not in self.unruled}

    def measure_unplanned(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Everything by the slow engines."""
        self._measure_slowly(self.parameters, batch, total)

    def _measure_slowly(self, names: Iterable[str], batch: Any, total: dict[str, Tensor]) -> None:
        self._slow.parameters = {name: self.parameters[name] for name in names}
        if self._slow.parameters:
            self._slow(batch, total)


class _Backward(Measurement):
    """Gets δ from a backward pass through the whole network."""

    def __init__(
        self,
        parameters: dict[str, Tensor],
        plan: Plan,
        size: int,
        total: dict[str, Tensor],
        unruled: dict[str, str],
        anchor: Tensor,
    ) -> None:
        super().__init__(parameters, plan, size, total, unruled)
        self.anchor = anchor

    def run(self, call: Call, gradients: Gradients) -> Any:
        def receive(delta: Tensor) -> None:
            call.check_kept()
            axis = call.output_axes[0]
            if axis is None:
                return
            for parameter, per_sample in gradients(samples_first(delta, axis, self.size)):
                self.add(parameter, per_sample)

        args, kwargs = self.detach((call.args, call.kwargs))
        if not any(isinstance(t, Tensor) and t.requires_grad for t in tree_leaves((args, kwargs))):
            return _Entry.apply(self.anchor, receive, lambda: _own(call.function(*args, **kwargs)))
        output = call.function(*args, **kwargs)
        output.register_hook(receive)
        return output

    def vectorised(self, call: Call) -> Any:
        """vmap over the samples of this one call, each with its own copy of the parameters."""
        if _is_inplace(call):
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
    """Not a view: what follows may overwrite it in place (``ReLU(inplace=True)``)."""
    return output.clone() if output._is_view() else output


def _is_inplace(call: Call) -> bool:
    name = name_of(call.function)
    return (
        "out" in call.kwargs
        or (name.endswith("_") and not name.endswith("__"))
        or (name.startswith("__i") and name.endswith("__"))
    )


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
