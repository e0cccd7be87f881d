"""Streams of experiences to learn, made from data on disk or that come with a library."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche_mas.benchmarks.digits import permuted_digits, split_digits
    from avalanche_mas.benchmarks.fact_benchmark import fact_learning
    from avalanche_mas.benchmarks.object_benchmark import (
        EIGHT_TASKS,
        TWO_TASK_SEQUENCES,
        Preprocessing,
        object_recognition,
    )
    from avalanche_mas.benchmarks.regression import regression_sequence
    from avalanche_mas.benchmarks.sequence import task_sequence
    from avalanche_mas.benchmarks.split import split_by_class

# Searched when a name is first used: the commands in `download` need no Avalanche.
_MODULES = ("digits", "fact_benchmark", "object_benchmark", "regression", "sequence", "split")

__all__ = [
    "EIGHT_TASKS",
    "TWO_TASK_SEQUENCES",
    "Preprocessing",
    "fact_learning",
    "object_recognition",
    "permuted_digits",
    "regression_sequence",
    "split_by_class",
    "split_digits",
    "task_sequence",
]


def __getattr__(name: str) -> object:
    for module in _MODULES if name in __all__ else ():
        found = import_module(f"{__name__}.{module}")
        if hasattr(found, name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
