"""One forward pass in which every use of a parameter is measured by its rule."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from avalanche_mas.importance.engines.objectives import Magnitude, Objective
from avalanche_mas.importance.engines.plan import Plan, Use
from avalanche_mas.importance.engines.tracking import Operation, Tracker, map_tensors
from avalanche_mas.importance.rules.derivations import go_back
from avalanche_mas.importance.rules.matmul import Products
from avalanche_mas.importance.rules.per_sample import PerSample, Pullback, Sum
from avalanche_mas.importance.rules.registry import (
    Axis,
    Call,
    Gradients,
    NoRule,
    find_rule,
    name_of,
    overlaps_itself,
)


@dataclass
class Record:
    """How parameters are measured, as far as has been seen."""

    unruled: dict[str, str] = field(default_factory=dict)
    """Parameters that no rule measures: name → why."""
    ways: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name → the operations that use the parameter → ``"rule"`` or ``"vmap"``."""
    sample_bytes: int = 0
    """Memory for per-sample gradients that are kept until the end of a pass."""


@dataclass(frozen=True)
class Pass:
    """What one forward pass over a batch, or a piece of it, is measured with.

    :param parameters: canonical name → parameter.
    :param plan: the uses to expect.
    :param objective: what is measured.
    :param size: number of samples B in the forward pass.
    :param total: name → where Σ_k |g_k| is added; strides as the parameters'.
    :param record: how parameters are measured; added to when that turns out on the way.
    :param products: where sums that are matrix products may wait for other pieces of the batch.
    """

    parameters: dict[str, Tensor]
    plan: Plan
    objective: Objective
    size: int
    total: dict[str, Tensor]
    record: Record
    products: Products


class PlanMismatch(Exception):
    """The forward pass executed other operations than its plan foresaw."""


class Instrument(Tracker):
    """While active, every planned use of a parameter runs with the parameter detached.

    Autograd therefore never builds a weight gradient; :meth:`run` decides where the gradient δ at
    the operation's output comes from and hands it to the rule's closed form.

    :param given: the pass to measure.
    """

    def __init__(self, given: Pass) -> None:
        super().__init__(given.parameters)
        self.given, self.plan, self.size = given, given.plan, given.size
        self.mismatched = False
        """Whether it went otherwise than planned, also if the model has caught what that raised."""
        self._next = 0
        self._waiting: dict[str, list[tuple[Tensor, PerSample]]] = {}
        self._derivations: dict[str, tuple[Operation, list[int]]] = {}
        self._used: set[str] = set()  # parameters and derived tensors, by other than views

    @abstractmethod
    def run(self, call: Call, gradients: Gradients) -> Any:
        """Executes ``call`` with its parameters detached; δ at its output goes to ``gradients``."""

    def vectorised(self, operation: Operation, call: Call) -> Any:
        """Executes a call that has no rule, or raises :class:`NoRule`."""
        raise NoRule(f"{name_of(call.function)} has no rule")

    def handle(self, operation: Operation) -> Any:
        use = self.plan.uses[self._next] if self._next < len(self.plan.uses) else None
        self._next += 1
        self.mismatched |= use is None or not self._as_planned(operation, use)
        if use is None or self.mismatched:
            raise PlanMismatch
        if use.is_view and not any(use.output_axes):
            return self._view(operation)
        function, args, kwargs, leaves, names = operation
        self._used.update(names)
        try:
            if use.unclear:
                raise NoRule("the dimension that counts samples is not clear")
            if use.mixed and self.size > 1:
                raise NoRule("the samples of a batch are mixed")
            if self.plan.joins_samples and self.size > 1:
                raise NoRule("the output of a sample depends on the others")
            if self.plan.reorders and self.size > 1:
                raise NoRule("the order of the samples depends on their values")
            if use.derives:
                return self._derive(operation)
            if any(overlaps_itself(leaf) for leaf in leaves if self.find(leaf)):
                raise NoRule("an expanded view of a parameter")
            axes = {id(leaf): axis for leaf, axis in zip(leaves, use.axes, strict=True) if axis}
            call = Call(function, args, kwargs, self.size, axes, list(use.output_axes))
            closed_form = find_rule(function)
            if closed_form is not None:
                with suppress(NoRule):
                    result = self.run(call, closed_form(call, *args, **kwargs))
                    self._note(operation, "rule")
                    return result
            result = self.vectorised(operation, call)
            self._note(operation, "vmap")
            return result
        except PlanMismatch:
            self.mismatched = True
            raise
        except NoRule as reason:
            for name in self.sources(names):
                self.given.record.unruled.setdefault(name, f"{name_of(function)}: {reason}")
            if use.derives:
                return self._derive(operation)
            return self.plainly(function, args, kwargs)

    def _view(self, operation: Operation) -> Any:
        """A view, or a write to what was computed from parameters, as ``w.mul_(mask)``.

        Autograd follows both. But what has been measured of such a tensor before is not of what it
        is now, and another parameter that is written into it is none of its sources.
        """
        versions = _versions(operation.leaves)
        result, names = operation.run(), operation.names
        is_written = _versions(operation.leaves) != versions
        if is_written and (len(set(names)) > 1 or not self._used.isdisjoint(names)):
            for name in self.sources(names):
                self.given.record.unruled.setdefault(
                    name, f"{name_of(operation.function)}: a tensor that depends on it is changed"
                )
        return result

    def _derive(self, operation: Operation) -> Any:
        derived = self.add_derived(operation.run(), operation.names)
        if (name := self.find(derived)) in self.derived:
            versions = _versions([*operation.leaves, self.derived[name]])
            self._derivations[name] = operation, versions
        return derived

    def _note(self, operation: Operation, way: str) -> None:
        for name in self.sources(operation.names):
            self.given.record.ways.setdefault(name, {})[name_of(operation.function)] = way

    def _as_planned(self, operation: Operation, use: Use) -> bool:
        """Whether this is the planned operation, with the same optional arguments and samples."""
        leaves = operation.leaves
        return (
            (use.function, use.names) == (operation.function, operation.names)
            and use.tensors == tuple(isinstance(leaf, Tensor) for leaf in leaves)
            and (use.unclear or all(map(self._holds_samples, leaves, use.axes)))
            and (self.plan.apart.isdisjoint(use.names) or use.spans == self.spans(leaves))
        )

    def _holds_samples(self, leaf: Any, axis: Axis | None) -> bool:
        if axis is None:
            return True
        fits = leaf.dim() > axis.dim and leaf.shape[axis.dim] == self.size * axis.per_sample
        return bool(fits)

    def plainly(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The result of a call whose weight gradients autograd is not asked for."""
        args, kwargs = self.detach((args, kwargs))
        return function(*args, **kwargs)

    def detach(self, values: Any) -> Any:
        """``values`` with the parameters in it detached."""
        return map_tensors(lambda leaf: leaf.detach() if self.find(leaf) else leaf, values)

    def add(self, parameter: Tensor | None, gradients: PerSample) -> None:
        """Adds Σ_k |g_k| of one use; waits for the others if the parameter has several.

        The gradients of all uses belong inside the absolute value: |Σ_uses g_k|.
        """
        name = self.find(parameter)
        if parameter is None or name is None or name in self.given.record.unruled:
            return
        if name in self.plan.shared or name in self.derived:
            self._waiting.setdefault(name, []).append((parameter, gradients))
        else:
            self.add_complete(name, parameter, gradients)

    def add_complete(self, name: str, part: Tensor, gradients: PerSample) -> None:
        """Adds Σ_k |g_k| of a parameter, or of a part of its memory, that has no other use."""
        offset = part.storage_offset() - self.parameters[name].storage_offset()
        total = self.given.total[name].as_strided(part.shape, part.stride(), offset)
        self.add_magnitudes(total, gradients, self.given.objective.magnitude)

    def add_magnitudes(self, total: Tensor, gradients: PerSample, magnitude: Magnitude) -> None:
        """total += Σ_k magnitude(g_k), at once or with the products of other pieces."""
        if factors := gradients.factors():
            self.given.products.add(total, *factors, magnitude)
        else:
            gradients.add(total, magnitude)

    def check_complete(self) -> None:
        """:raises PlanMismatch: if other operations ran than planned, or fewer.

        Of several samples those without parameters count as well: that the network turns a batch
        around before a layer, as it may from some size on, shows in them alone.
        """
        otherwise = self.size > 1 and tuple(self.functions) != self.plan.functions
        if self.mismatched or self._next != len(self.plan.uses) or otherwise:
            raise PlanMismatch

    def finish(self) -> None:
        """Adds what waited, once every use has been measured."""
        for name, tensor in reversed(self.derived.items()):
            if uses := self._waiting.pop(name, []):
                self._go_back(name, Sum(tensor, uses))
        for name, uses in self._waiting.items():
            parameter = self.parameters[name]
            self.add_complete(name, parameter, Sum(parameter, uses))
        self._waiting.clear()

    def _go_back(self, name: str, gradients: Sum) -> None:
        """From a derived tensor to what it was derived from: by one operation, or to the roots."""
        unruled, operation = self.given.record.unruled, self._unchanged(name)
        if operation is not None and all(map(self._is_source, operation.leaves)):
            parts = go_back(operation.function, operation.args, operation.kwargs, gradients)
            if parts is not None:
                for tensor, of_part in parts:
                    source = self.find(tensor)  # None if it is frozen
                    if source is not None and source not in unruled:
                        self._waiting.setdefault(source, []).append((tensor, of_part))
                return
        for source in sorted(self._sources[name] - set(unruled)):
            parameter = self.parameters[source]
            pulled = Pullback(parameter, gradients.parameter, gradients)
            self._waiting.setdefault(source, []).append((parameter, pulled))

    def _unchanged(self, name: str) -> Operation | None:
        """The operation that gave a derived tensor, if nothing was written to since."""
        operation, versions = self._derivations.get(name, (None, []))
        if operation and _versions([*operation.leaves, self.derived[name]]) == versions:
            return operation
        return None

    def _is_source(self, leaf: Any) -> bool:
        """Whether a gradient of the leaf, if it has one, is one of a parameter's own memory."""
        if not isinstance(leaf, Tensor) or not leaf.requires_grad:
            return True
        return self.find(leaf) is not None and not overlaps_itself(leaf)


def _versions(leaves: Iterable[Any]) -> list[int]:
    """How many times each tensor has been written to, as far as that is counted."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors]
