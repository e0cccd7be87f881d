"""Memory Aware Synapses for Avalanche: exact importance, a stable penalty, thin plugins.

Where the paper (Aljundi et al., ECCV 2018) is in the code: Eq. 1-2 in
:mod:`.importance.engines.objectives`, Eq. 3 in :mod:`.penalty.quadratic`, Eq. 4-7 in
:mod:`.importance.engines.local`. The methods are in :mod:`.plugins`, by name and with their
published hyper-parameters in :mod:`.plugins.registry`.

Importance and penalty are plain PyTorch. Avalanche is loaded when a plugin is first asked for.
"""

from typing import TYPE_CHECKING

from avalanche_mas.importance import (
    Importance,
    check_model,
    estimate_importance,
    estimate_local_importance,
    watch_importance,
    watch_local_importance,
)
from avalanche_mas.penalty.quadratic import QuadraticPenalty

if TYPE_CHECKING:
    from avalanche_mas.plugins import (
        EBLLPlugin,
        EWCPlugin,
        HeadWarmupPlugin,
        IMMPlugin,
        LocalMASPlugin,
        LwFPlugin,
        MASPlugin,
        SIPlugin,
        estimate_fisher,
    )
else:

    def __getattr__(name):
        """What needs Avalanche, which takes seconds to load."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from avalanche_mas import plugins

        return getattr(plugins, name)

    def __dir__():
        return sorted({*globals(), *__all__})


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
