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
    from avalanche_mas.benchmarks.sequence import task_sequence

# Imported when they are first used: the commands in `download` need no Avalanche.
_MODULES = {
    "digits": ("permuted_digits", "split_digits"),
    "fact_benchmark": ("fact_learning",),
    "object_benchmark": (
        "EIGHT_TASKS",
        "TWO_TASK_SEQUENCES",
        "Preprocessing",
        "object_recognition",
    ),
    "sequence": ("task_sequence",),
}

__all__ = [
    "EIGHT_TASKS",
    "TWO_TASK_SEQUENCES",
    "Preprocessing",
    "fact_learning",
    "object_recognition",
    "permuted_digits",
    "split_digits",
    "task_sequence",
]


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
