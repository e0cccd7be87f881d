"""Checks of arguments that several plugins take."""

from __future__ import annotations

import inspect
import math
import operator
import warnings
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from avalanche_mas.penalty.quadratic import check_number


def check_not_negative(**values: float) -> None:
    """Checks numbers.

    :raises TypeError: for something else than a number.
    :raises ValueError: for a number that is negative, infinite or NaN.
    """
    for name, value in values.items():
        check_number(**{name: value})
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and must not be negative, got {value}")


def check_positive(**values: float) -> None:
    """Checks numbers.

    :raises TypeError: for something else than a number.
    :raises ValueError: for a number that is not above 0, infinite or NaN.
    """
    for name, value in values.items():
        check_number(**{name: value})
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value!r}")


def check_strengths(**values: float | Sequence[float]) -> None:
    """Checks strengths: a number each, or one for each experience.

    :raises TypeError: for something else.
    :raises ValueError: for a number that is negative, infinite or NaN, or none at all.
    """
    for name, value in values.items():
        numbers: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        if not numbers:
            raise ValueError(f"{name} is empty: give a number, or one for each experience")
        for number in numbers:
            check_not_negative(**{name: number})


def strength_of(task: int, **value: float | Sequence[float]) -> float:
    """The strength of a task, in the order of training.

    :param task: its number.
    :param value: a strength by its name, as of :func:`check_strengths`.
    :raises ValueError: if there is none for this task.
    """
    ((name, given),) = value.items()
    if not isinstance(given, Sequence):
        return given
    if task >= len(given):
        raise ValueError(
            f"{name} has {len(given)} numbers, one for each experience, and this is experience "
            f"{task + 1}: give it more, or a single one"
        )
    return given[task]


def check_counts(least: int = 1, **values: int | None) -> None:
    """Checks whole numbers, of which None stands for a default.

    :param least: the smallest that is allowed.
    :raises TypeError: for something else than a whole number.
    :raises ValueError: for a smaller one.
    """
    for name, value in values.items():
        if value is None:
            continue
        try:
            count = operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be a whole number, got {value!r}") from None
        if isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if count < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def warn_of_translation(call: str, meaning: str) -> None:
    """Says how arguments of Avalanche's plugin of the same name are understood.

    :param call: the call.
    :param meaning: what it means here.
    """
    warnings.warn(f"{call} is Avalanche's signature, read as {meaning}.", stacklevel=4)


def check_forward(forward: Any) -> None:
    """:raises TypeError: for something that cannot be called."""
    if forward is not None and not callable(forward):
        raise TypeError(f"forward must be a function (model, batch) -> output, got {forward!r}")


def options_of(plugin: object) -> dict[str, Any]:
    """The arguments that a plugin was made with, as far as it keeps them, by name.

    :param plugin: keeps arguments in attributes or properties of the same names.
    """
    names = inspect.signature(type(plugin)).parameters
    return {name: getattr(plugin, name) for name in names if hasattr(plugin, name)}


def described(value: Any) -> str:
    """An option in words that are the same in every process: functions by their names.

    :param value: the option.
    """
    if isinstance(value, (Real, str, list, tuple)) or value is None:
        return repr(value)
    if isinstance(value, Mapping):  # an importance: what it is of
        return f"{type(value).__name__} of {len(value)} parameters"
    return getattr(value, "__qualname__", type(value).__name__)
