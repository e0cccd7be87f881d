"""Whether what a model computes with has changed since a moment ago."""

from __future__ import annotations

import functools
import itertools
import operator
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from avalanche_mas.importance.parameters import checksum


class Snapshot:
    """The attributes, tensors, submodules and hooks of a model, at any depth.

    Everything that can change is kept beside a shallow copy of itself, so that comparing takes
    microseconds. No code of the user's runs. Of a tensor it shows whether it is another one, and
    whether it was written to, though not through ``.data``.

    :param model: any module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors: list[Tensor] = []
        self._live: list[Any] = []  # containers
        self._copies: list[Any] = []
        self._odd: list[tuple[Callable[[], Any], Any]] = []  # how to look, and what was there
        self._immutable: list[Any] = []  # kept, so that no other object can have its identity
        self._walk(model)
        self._versions = list(map(_version, self._tensors))

    def is_current(self) -> bool:
        """Whether the model is still as it was."""
        try:
            return (
                all(map(operator.eq, self._live, self._copies))
                and list(map(_version, self._tensors)) == self._versions
                and all(look() == before for look, before in self._odd)
            )
        except Exception:  # values that cannot be compared are not the same objects
            return False

    def _walk(self, model: nn.Module) -> None:
        seen, waiting = set[int](), [model]
        while waiting:
            value = waiting.pop()
            if type(value) in _PLAIN or id(value) in seen:
                continue
            seen.add(id(value))
            waiting += self._noted(value)

    def _noted(self, value: Any) -> Iterator[Any]:
        """Notes a value; what it holds, to be noted as well."""
        if isinstance(value, Tensor):
            self._tensors.append(value)
        elif type(value) in (dict, OrderedDict):
            self._keep(value, value.copy())
            yield from value.values()
        elif type(value) in (list, set, deque, bytearray):
            self._keep(value, value.copy())
            yield from value
        elif isinstance(value, nn.Module):
            self._keep(vars(value), vars(value).copy())
            yield from (v for name, v in vars(value).items() if name != "_compiled_call_impl")
        elif isinstance(value, (functools.partial, FunctionType)):
            self._keep(vars(value), vars(value).copy())
            if isinstance(value, FunctionType):
                yield from (value.__closure__ or (), value.__defaults__, value.__kwdefaults__)
            elif isinstance(value, functools.partial):
                yield from (value.func, value.args, value.keywords)
            yield from vars(value).values()
        elif isinstance(value, MethodType):
            yield from (value.__self__, value.__func__)
        elif isinstance(value, _WITH_A_STATE):
            self._watch(lambda: _state_of(value))
        elif not isinstance(value, (type, ModuleType)):
            self._immutable.append(value)
            self._watch(lambda: _Parts(_parts_of(value)))
            yield from _parts_of(value)

    def _keep(self, live: Any, copy: Any) -> None:
        self._live.append(live)
        self._copies.append(copy)

    def _watch(self, look: Callable[[], Any]) -> None:
        self._odd.append((look, look()))


_PLAIN = {type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size}
_WITH_A_STATE = (
    *(numpy.ndarray, numpy.random.Generator, numpy.random.RandomState),
    *(torch.Generator, Random, itertools.count, weakref.ref),
)


def _state_of(value: Any) -> object:
    if isinstance(value, numpy.ndarray):
        return value.shape, value.dtype, value.tobytes()
    if isinstance(value, numpy.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, numpy.random.RandomState):
        return repr(value.get_state())
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, weakref.ref):
        return id(value())
    return value.getstate() if isinstance(value, Random) else repr(value)


class _Parts(tuple[Any, ...]):
    """Equal if they are the same objects, or equal plain values."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, tuple)
            and len(self) == len(other)
            and all(
                a is b or (type(a) is type(b) and type(a) in _PLAIN and a == b)
                for a, b in zip(self, other, strict=True)
            )
        )

    __hash__ = None  # type: ignore[assignment]


def _parts_of(value: Any) -> list[Any]:
    """The attributes and items of any other object."""
    parts: list[Any] = []
    if isinstance(value, CellType):
        with suppress(ValueError):  # it may be empty
            parts.append(value.cell_contents)
    elif isinstance(value, dict):
        parts += [*dict.keys(value), *dict.values(value)]
    elif isinstance(value, (tuple, frozenset, list, set, deque)):
        parts += iter(value)
    with suppress(TypeError):
        parts += [*vars(value).keys(), *vars(value).values()]
    for cls in type(value).__mro__:
        for slot in vars(cls).get("__slots__", ()):
            with suppress(AttributeError):
                parts.append(object.__getattribute__(value, slot))
    return parts


def _version(tensor: Tensor) -> object:
    if tensor.is_inference():  # nothing counts how often it was written to
        return checksum(tensor)
    place = tensor.data_ptr() if tensor.layout is torch.strided else 0
    return tensor._version, place, tensor.requires_grad
