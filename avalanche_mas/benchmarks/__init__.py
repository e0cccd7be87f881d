"""Streams of experiences to learn, made from data on disk or that come with a library."""

from avalanche_mas.benchmarks.digits import permuted_digits, split_digits
from avalanche_mas.benchmarks.fact_benchmark import fact_learning
from avalanche_mas.benchmarks.object_benchmark import (
    EIGHT_TASKS,
    TWO_TASK_SEQUENCES,
    Preprocessing,
    object_recognition,
)
from avalanche_mas.benchmarks.sequence import task_sequence

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
