"""What a continual learner remembers, and what it pays for it."""

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
