"""Memory Aware Synapses for Avalanche: exact importance, a stable penalty, thin plugins.

Where the paper (Aljundi et al., ECCV 2018) is in the code: Eq. 1-2 in :mod:`.importance.exact`,
Eq. 3 in :mod:`.penalty`, Eq. 4-7 in :mod:`.importance.local`, the methods in :mod:`.plugins`. All
methods by name, with their published hyper-parameters, are in :mod:`.methods`.
"""

from avalanche_mas.importance import (
    Importance,
    check_model,
    estimate_importance,
    estimate_local_importance,
    watch_importance,
    watch_local_importance,
)
from avalanche_mas.penalty.quadratic import QuadraticPenalty
from avalanche_mas.plugins import (
    EBLLPlugin,
    EWCPlugin,
    HeadWarmupPlugin,
    IMMPlugin,
    LocalMASPlugin,
    LwFPlugin,
    MASPlugin,
    SIPlugin,
)
from avalanche_mas.plugins.ewc.fisher import estimate_fisher

__version__ = "0.1.0"

__all__ = [
    "EBLLPlugin",
    "EWCPlugin",
    "HeadWarmupPlugin",
    "IMMPlugin",
    "Importance",
    "LocalMASPlugin",
    "LwFPlugin",
    "MASPlugin",
    "QuadraticPenalty",
    "SIPlugin",
    "check_model",
    "estimate_fisher",
    "estimate_importance",
    "estimate_local_importance",
    "watch_importance",
    "watch_local_importance",
]
