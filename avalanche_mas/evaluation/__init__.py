"""What a continual learner remembers, and what it pays for it."""

from avalanche_mas.evaluation.accuracy_matrix import (
    AccuracyMatrix,
    average_accuracy,
    final_accuracy,
    forgetting,
)
from avalanche_mas.evaluation.memory import method_memory

__all__ = ["AccuracyMatrix", "average_accuracy", "final_accuracy", "forgetting", "method_memory"]
