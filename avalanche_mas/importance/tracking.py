"""Follows every parameter to the torch operations that use it, and finds the samples there.

A :class:`~torch.overrides.TorchFunctionMode` sees each torch call with its arguments. A tensor
belongs to a parameter when it lives in the parameter's storage, so views, chunks of packed weights,
shared weights and functional calls are all recognised, which hooks on modules cannot do.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from avalanche_mas.importance.batches import take
from avalanche_mas.importance.network import Network
from avalanche_mas.importance.rules.registry import Axis, name_of

REPEATING = {"expand", "expand_as", "broadcast_to", "repeat", "tile"}
"""Operations that may give every sample a copy of a parameter, such as a class token."""

_UNCLEAR = Axis(-1, 0)  # a tensor that changes with the number of samples in no simple way


@dataclass(frozen=True)
class Use:
    """One torch call that takes a parameter.

    :param function: the torch function.
    :param names: canonical names of the parameters among its arguments.
    :param axes: where the samples lie, for each leaf of ``(args, kwargs)``; None if nowhere.
    :param output_axes: the same for each tensor of the result.
    :param is_view: the result is still the parameter's memory, or no tensor at all.
    """

    function: Callable[..., Any]
    names: tuple[str, ...]
    axes: tuple[Axis | None, ...]
    output_axes: tuple[Axis | None, ...]
    is_view: bool

    @property
    def unclear(self) -> bool:
        """Whether the samples could not be located."""
        return _UNCLEAR in self.axes or _UNCLEAR in self.output_axes


@dataclass(frozen=True)
class Plan:
    """All uses of parameters in one forward pass, in the order of their execution."""

    uses: tuple[Use, ...]

    @property
    def signature(self) -> tuple[object, ...]:
        """What two forward passes have in common when the same operations ran."""
        return tuple((use.function, use.names, use.axes, use.output_axes) for use in self.uses)

    def times_used(self) -> Counter[str]:
        """How often each parameter is used in a computation."""
        return Counter(name for use in self.uses if not use.is_view for name in use.names)


class Tracker(TorchFunctionMode):
    """Base class: while active, :meth:`handle` gets the torch calls that use a parameter.

    :param parameters: canonical name → parameter.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.parameters = parameters
        self._places: dict[int, list[tuple[int, int, str]]] = {}
        for name, parameter in parameters.items():
            start = int(parameter.storage_offset())
            place = (start, start + parameter.numel(), name)
            self._places.setdefault(parameter.untyped_storage().data_ptr(), []).append(place)

    def find(self, value: Any) -> str | None:
        """The name of the parameter that ``value`` is, or is a differentiable view of."""
        if not isinstance(value, Tensor) or not value.requires_grad or value.is_sparse:
            return None
        try:
            storage = value.untyped_storage().data_ptr()
        except (RuntimeError, NotImplementedError):  # a tensor inside the model's own torch.func
            return None
        for start, stop, name in self._places.get(storage, ()):
            if start <= value.storage_offset() < stop:
                return name
        return None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        names = tuple(name for name in map(self.find, leaves) if name is not None)
        if names and torch.is_grad_enabled():
            return self.handle(func, args, kwargs, leaves, names)
        return self.pass_by(func, args, kwargs, leaves)

    @abstractmethod
    def handle(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        leaves: list[Any],
        names: tuple[str, ...],
    ) -> Any:
        """Runs a torch call that uses the parameters ``names`` and returns its result."""

    def pass_by(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        leaves: list[Any],
    ) -> Any:
        """Runs a torch call that uses no parameter."""
        return function(*args, **kwargs)


class _Probe(Tracker):
    """Writes down the shapes of every use."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(parameters)
        self.seen: list[tuple[Any, tuple[str, ...], list[Any], list[Any], bool]] = []

    def handle(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        leaves: list[Any],
        names: tuple[str, ...],
    ) -> Any:
        shapes = _shapes(leaves)
        result = function(*args, **kwargs)
        if name_of(function) in REPEATING:
            result = result.clone()  # the copies belong to the samples, no more to the parameter
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        is_view = all(self.find(output) for output in outputs)
        self.seen.append((function, names, shapes, _shapes(outputs), is_view))
        return result


def make_plan(
    network: Network, parameters: Mapping[str, Tensor], batch: Any, size: int
) -> Plan | None:
    """Where each parameter is used, and which dimension of each tensor there counts samples.

    The network runs on two and on three copies of the batch's first sample: the dimension that
    goes from 2m to 3m holds m entries for every sample. No shape has to be guessed, even where a
    sequence happens to be as long as the batch.

    :return: None if the two passes did not execute the same operations.
    """
    seen = []
    for copies in (2, 3):
        probe = _Probe(parameters)
        with probe:
            network(take(batch, torch.zeros(copies, dtype=torch.long), size))
        seen.append(probe.seen)
    if [use[:2] for use in seen[0]] != [use[:2] for use in seen[1]]:
        return None
    return Plan(
        tuple(
            Use(function, names, _axes(inputs, inputs3), _axes(outputs, outputs3), is_view)
            for (function, names, inputs, outputs, is_view), (_, _, inputs3, outputs3, _) in zip(
                *seen, strict=True
            )
        )
    )


def _shapes(leaves: list[Any]) -> list[torch.Size | None]:
    return [leaf.shape if isinstance(leaf, Tensor) else None for leaf in leaves]


def _axes(two: list[torch.Size | None], three: list[torch.Size | None]) -> tuple[Axis | None, ...]:
    if len(two) != len(three):
        return (_UNCLEAR,)
    return tuple(_axis(a, b) for a, b in zip(two, three, strict=True))


def _axis(two: torch.Size | None, three: torch.Size | None) -> Axis | None:
    if two == three:
        return None
    if two is None or three is None or len(two) != len(three):
        return _UNCLEAR
    grown = [dim for dim, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
    if len(grown) != 1 or two[grown[0]] % 2 or two[grown[0]] * 3 != three[grown[0]] * 2:
        return _UNCLEAR
    return Axis(grown[0], two[grown[0]] // 2)
