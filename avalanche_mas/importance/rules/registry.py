"""The registry of rules, and the call of a torch operation that a rule is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from avalanche_mas.importance.rules.per_sample import PerSample

Gradients = Callable[[Tensor], Iterable[tuple[Tensor | None, PerSample]]]
"""δ at the output (samples in front) → for each parameter its per-sample gradients. Pairs whose
parameter is None, frozen or no parameter at all are ignored."""

Rule = Callable[..., Gradients]
_Rule = TypeVar("_Rule", bound=Rule)
_Parts = TypeVar("_Parts", bound=Callable[..., Any])
_rules: dict[Callable[..., Any], Rule] = {}
_decompositions: dict[Callable[..., Any], Callable[..., Any]] = {}


class NoRule(Exception):
    """Raised by a rule for a call that its closed form does not cover."""


class Axis(NamedTuple):
    """Where the samples lie in a tensor: ``per_sample`` entries of ``dim`` belong to each.

    :param inner: whether the samples alternate, as where (T, B) was flattened, instead of lying one
        behind the other.
    """

    dim: int
    per_sample: int
    inner: bool = False


@dataclass
class Call:
    """A torch operation on a batch in which a parameter takes part.

    :param function: the torch function.
    :param args: its positional arguments.
    :param kwargs: its keyword arguments.
    :param size: number of samples B.
    :param axes: ``id(tensor)`` → where the samples lie in it, for the arguments that have any.
    :param output_axes: the same for each tensor of the result.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    size: int
    axes: dict[int, Axis]
    output_axes: list[Axis | None]
    _kept: list[tuple[Tensor, int]] = field(default_factory=list)

    def axis(self, tensor: Tensor) -> Axis:
        """Where the samples lie in an argument.

        :param tensor: one of the operation's arguments.
        :return: the dimension, and how many of its entries belong to a sample.
        :raises NoRule: if it is the same for all samples.
        """
        if id(tensor) not in self.axes:
            raise NoRule("an input that does not depend on the samples")
        return self.axes[id(tensor)]

    def samples(self, tensor: Tensor) -> Tensor:
        """An argument, detached, with the samples in front: shape (B, *shape of one sample).

        One sample has as many dimensions as the argument; where the samples were, it has the
        number of entries that belong to it (1 for an ordinary batch).

        :param tensor: one of the operation's arguments.
        :return: the rearranged tensor.
        """
        self._kept.append((tensor, tensor._version))
        return samples_first(tensor.detach(), self.axis(tensor), self.size)

    def check_kept(self) -> None:
        """Autograd's own rule: what the gradient needs may not have been overwritten.

        :raises RuntimeError: if it was.
        """
        for tensor, version in self._kept:
            if tensor._version != version:
                raise RuntimeError(
                    f"the input of {name_of(self.function)} is modified by an in-place operation "
                    "after its use"
                )


def samples_first(tensor: Tensor, axis: Axis, size: int) -> Tensor:
    """(..., B·m, ...) → (B, ..., m, ...)."""
    if axis.inner:
        return torch.unflatten(tensor, axis.dim, (axis.per_sample, size)).movedim(axis.dim + 1, 0)
    return torch.unflatten(tensor, axis.dim, (size, axis.per_sample)).movedim(axis.dim, 0)


def samples_back(tensor: Tensor, axis: Axis) -> Tensor:
    """The inverse of :func:`samples_first`."""
    place = axis.dim + 1 if axis.inner else axis.dim
    return tensor.movedim(0, place).flatten(axis.dim, axis.dim + 1)


def rule(*functions: Callable[..., Any]) -> Callable[[_Rule], _Rule]:
    """Registers the decorated function as the rule of torch functions; a later rule replaces.

    :param functions: as torch's ``__torch_function__`` reports them, for example
        ``torch.nn.functional.linear``.
    :return: a decorator, which gives the rule back as it is.
    """

    def register(closed_form: _Rule) -> _Rule:
        for function in functions:
            _rules[function] = closed_form
        return closed_form

    return register


def decomposition(function: Callable[..., Any]) -> Callable[[_Parts], _Parts]:
    """Registers the decorated function as what a torch function does, in terms of simpler ones.

    It takes the same arguments and returns the same. It may raise :class:`NoRule` before it has
    computed anything; the torch function itself is then measured as one operation.

    :param function: as torch's ``__torch_function__`` reports it.
    :return: a decorator, which gives the function back as it is.
    """

    def register(parts: _Parts) -> _Parts:
        _decompositions[function] = parts
        return parts

    return register


def find_decomposition(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """What a torch function consists of, if that is registered."""
    return _decompositions.get(function)


def find_rule(function: Callable[..., Any]) -> Rule | None:
    """The rule registered for a torch function, if there is one.

    :param function: as torch's ``__torch_function__`` reports it.
    :return: the rule, or None.
    """
    return _rules.get(function)


def name_of(function: Callable[..., Any]) -> str:
    """A torch function's name for messages."""
    return str(getattr(function, "__name__", function))


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether two entries of a view share memory, as in an expanded tensor."""
    extent = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return True
            extent = stride * (size - 1) + extent
    return False
