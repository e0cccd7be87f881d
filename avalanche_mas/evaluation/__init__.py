"""What a continual learner remembers, and what it pays for it."""

from avalanche_mas.evaluation.accuracy_matrix import (
    AccuracyMatrix,
    average_accuracy,
    final_accuracy,
    forgetting,
)
from avalanche_mas.evaluation.fact_retrieval_metric import FactRetrievalMAP
from avalanche_mas.evaluation.memory import method_memory
from avalanche_mas.evaluation.retrieval import average_precision, fact_retrieval_map

__all__ = [
    "AccuracyMatrix",
    "FactRetrievalMAP",
    "average_accuracy",
    "average_precision",
    "fact_retrieval_map",
    "final_accuracy",
    "forgetting",
    "method_memory",
]
