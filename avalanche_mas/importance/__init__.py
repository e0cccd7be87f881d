"""model × data → Ω. Plain PyTorch: nothing in here knows of Avalanche."""

from avalanche_mas.importance.check import check_model
from avalanche_mas.importance.estimate import estimate_importance, estimate_local_importance
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.watch import watch_importance, watch_local_importance

__all__ = [
    "Importance",
    "check_model",
    "estimate_importance",
    "estimate_local_importance",
    "watch_importance",
    "watch_local_importance",
]
