"""Follows every parameter to the torch operations that use it.

A :class:`~torch.overrides.TorchFunctionMode` sees each torch call with its arguments. A tensor
belongs to a parameter when it lives in the parameter's storage, so views, chunks of packed weights,
shared weights and functional calls are all recognised, which hooks on modules cannot do.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from avalanche_mas.importance.rules.registry import NoRule, find_decomposition, name_of


class Operation(NamedTuple):
    """A call of a torch function, as a forward pass makes it.

    :param function: the torch function.
    :param args: its positional arguments.
    :param kwargs: its keyword arguments.
    :param leaves: all arguments, with tuples, lists and dicts unpacked.
    :param names: canonical names of the parameters among the leaves.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    leaves: list[Any]
    names: tuple[str, ...] = ()

    def run(self) -> Any:
        """The call itself."""
        return self.function(*self.args, **self.kwargs)


class Tracker(TorchFunctionMode):
    """Base class: while active, :meth:`handle` gets the torch calls that use a parameter.

    :param parameters: canonical name → parameter.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.parameters = parameters
        self.functions: list[Hashable] = []
        """All that were called, in order; with their arguments, where these are dimensions."""
        self.derived: dict[str, Tensor] = {}
        """Tensors that were computed from parameters alone, under names of their own."""
        self._sources: dict[str, set[str]] = {}
        self._places: dict[int, list[tuple[int, int, str]]] = {}
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            self._place(name, parameter)

    def add_derived(self, result: Any, names: Iterable[str]) -> Any:
        """From now on follows tensors that were computed from ``names``, like parameters."""
        return tree_map(lambda leaf: self._derived(leaf, names), result)

    def _derived(self, leaf: Any, names: Iterable[str]) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.requires_grad:
            return leaf  # such as the places of the largest
        if leaf.layout is not torch.strided:
            return leaf  # it has no dense memory to be found by
        tensor = leaf.contiguous()
        name = f"derived {len(self.derived)}"
        self.derived[name] = tensor
        self._sources[name] = self.sources(names)
        self._place(name, tensor)
        return tensor

    def sources(self, names: Iterable[str]) -> set[str]:
        """The parameters from which parameters and derived tensors were computed."""
        return set().union(*(self._sources.get(name, {name}) for name in names))

    def _place(self, name: str, tensor: Tensor) -> None:
        start = int(tensor.storage_offset())
        place = (start, start + tensor.numel(), name)
        self._places.setdefault(tensor.untyped_storage().data_ptr(), []).append(place)

    def find(self, value: Any) -> str | None:
        """The name of the parameter that ``value`` is, or is a differentiable view of.

        A derived tensor counts as a parameter.
        """
        if not isinstance(value, Tensor) or value.is_sparse or not value.requires_grad:
            return None
        try:
            storage = value.untyped_storage().data_ptr()
        except (RuntimeError, NotImplementedError):  # a tensor inside the model's own torch.func
            return None
        for start, stop, name in self._places.get(storage, ()):
            if start <= value.storage_offset() < stop:
                return name
        return self._names.get(id(value))  # its memory may have been replaced: p.data = ...

    def spans(self, leaves: Iterable[Any]) -> tuple[tuple[int, int], ...]:
        """Of the parameters among the arguments of a call, the ranges of their storages."""
        return tuple(_span(leaf) for leaf in leaves if self.find(leaf))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        leaves = arguments(args, kwargs)
        names = tuple(name for name in map(self.find, leaves) if name is not None)
        if names and torch.is_grad_enabled():
            parts = find_decomposition(func)
            if parts is not None:
                with suppress(NoRule), self:
                    return parts(*args, **kwargs)
            self.functions.append(_called(func, leaves))
            return self.handle(Operation(func, args, kwargs, leaves, names))
        self.functions.append(_called(func, leaves))
        return self.pass_by(Operation(func, args, kwargs, leaves))

    @abstractmethod
    def handle(self, operation: Operation) -> Any:
        """Runs an operation that uses parameters and returns its result."""

    def pass_by(self, operation: Operation) -> Any:
        """Runs an operation that uses no parameter and returns its result."""
        return operation.run()


_TURNING = {
    *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "flatten", "flip"),
    *("roll", "rot90", "cat", "concat", "concatenate", "stack", "unbind"),
}
"""Functions whose numbers say how a batch is turned, and not how large it is."""


def _called(function: Callable[..., Any], leaves: Iterable[Any]) -> Hashable:
    if name_of(function) not in _TURNING:
        return function
    return function, *(leaf for leaf in leaves if not isinstance(leaf, Tensor))


def _span(view: Tensor) -> tuple[int, int]:
    start = int(view.storage_offset())
    reach = sum((n - 1) * s for n, s in zip(view.shape, view.stride(), strict=True))
    return start, start + reach + 1


def arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """All arguments of a call, with tuples, lists and dicts unpacked."""
    leaves = []
    for value in (*args, *kwargs.values()):
        if not isinstance(value, (tuple, list, dict)):
            leaves.append(value)
        elif _are_numbers(value):
            leaves += value
        else:
            leaves += tree_leaves(value)
    return leaves


def map_tensors(
    function: Callable[[Tensor], Any], call: tuple[tuple[Any, ...], dict[str, Any]]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``(args, kwargs)`` of a call with ``function`` of all tensors among its arguments."""

    def mapped(value: Any) -> Any:
        if isinstance(value, Tensor):
            return function(value)
        if not isinstance(value, (tuple, list, dict)) or _are_numbers(value):
            return value
        return tree_map_only(Tensor, function, value)

    args, kwargs = call
    return tuple(map(mapped, args)), {key: mapped(value) for key, value in kwargs.items()}


def _are_numbers(value: Any) -> bool:
    """Whether it is such as a stride: pytree would take longer than many an operation."""
    return type(value) in (tuple, list) and all(type(part) is int for part in value)


def is_inplace(operation: Operation) -> bool:
    """Whether an operation writes to one of its arguments."""
    name = name_of(operation.function)
    return (
        operation.kwargs.get("out") is not None
        or (name.endswith("_") and not name.endswith("__"))
        or (name.startswith("__i") and name.endswith("__"))
        or name == "__setitem__"
    )
