"""What a run on a stream has measured, apart from what measures it: read without any library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StreamResult:
    """What a run measured: accuracies, or errors where the metric is one of errors."""

    accuracy: list[list[float | None]]  # R[i][j]: on experience j after training on i
    final_accuracy: float  # mean of R's last row
    forgetting: float | None  # mean of R[j][j] − R[-1][j], of errors minus it; None: not defined
    train_seconds: float  # in all, evaluation left out
    consolidation_seconds: float  # of these, the method's work at the ends of experiences
    memory_bytes: int  # what the method keeps beside the model
    weights_sha256: str  # of the final parameters
    diverged: bool = False  # Ω or an error became infinite or NaN; after Ω did, nothing was trained
    memory_after_each: list[int] = field(default_factory=list)  # bytes, after each experience
    found: list[dict[str, Any]] = field(default_factory=list)  # by the framework, for each
    memory_while_learning: list[int] = field(default_factory=list)  # the most, for each experience
