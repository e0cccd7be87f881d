"""What a continual learner remembers, and what it pays for it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche_mas.evaluation.accuracy_matrix import (
        AccuracyMatrix,
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

# Imported when they are first used, and Avalanche with them.
_MODULES = {
    "accuracy_matrix": (
        "AccuracyMatrix",
        "average_accuracy",
        "final_accuracy",
        "forgetting",
        "new_task_accuracy",
    ),
    "fact_retrieval_metric": ("FactRetrievalMAP",),
    "free_parameters": ("free_fraction",),
    "memory": ("method_memory",),
    "method_metrics": ("FreeParameters", "MethodMemory", "PenaltyShares", "PenaltyValue"),
    "retrieval": ("average_precision", "fact_retrieval_map"),
    "scalar_logger": ("ScalarCSVLogger",),
}

__all__ = [
    "AccuracyMatrix",
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
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
