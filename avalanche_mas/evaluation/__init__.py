"""What a continual learner remembers, and what it pays for it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche_mas.evaluation.accuracy_matrix import (
        AccuracyMatrix,
        ErrorMatrix,
        average_accuracy,
        final_accuracy,
        forgetting,
        new_task_accuracy,
    )
    from avalanche_mas.evaluation.fact_retrieval_metric import FactRetrievalMAP
    from avalanche_mas.evaluation.free_parameters import free_fraction
    from avalanche_mas.evaluation.memory import method_memory
    from avalanche_mas.evaluation.method_metrics import (
        FreeParameters,
        MethodMemory,
        PenaltyShares,
        PenaltyValue,
    )
    from avalanche_mas.evaluation.retrieval import average_precision, fact_retrieval_map
    from avalanche_mas.evaluation.scalar_logger import ScalarCSVLogger

# Searched when a name is first used; only the first of them does without Avalanche.
_MODULES = (
    "retrieval",
    "accuracy_matrix",
    "fact_retrieval_metric",
    "free_parameters",
    "memory",
    "method_metrics",
    "scalar_logger",
)

__all__ = [
    "AccuracyMatrix",
    "ErrorMatrix",
    "FactRetrievalMAP",
    "FreeParameters",
    "MethodMemory",
    "PenaltyShares",
    "PenaltyValue",
    "ScalarCSVLogger",
    "average_accuracy",
    "average_precision",
    "fact_retrieval_map",
    "final_accuracy",
    "forgetting",
    "free_fraction",
    "method_memory",
    "new_task_accuracy",
]


def __getattr__(name: str) -> object:
    for module in _MODULES if name in __all__ else ():
        found = import_module(f"{__name__}.{module}")
        if hasattr(found, name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
