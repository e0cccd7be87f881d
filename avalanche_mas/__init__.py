"""Memory Aware Synapses for Avalanche: exact importance, a stable penalty, thin plugins.

Where the paper (Aljundi et al., ECCV 2018) is in the code: Eq. 1-2 in
:mod:`.importance.engines.objectives`, Eq. 3 in :mod:`.penalty.quadratic`, Eq. 4-7 in
:mod:`.importance.engines.local`. The methods are in :mod:`.plugins`, by name and with their
published hyper-parameters in :mod:`.plugins.registry`.

Importance and penalty are plain PyTorch, which is loaded when a name is first asked for, and
Avalanche when a plugin is.
"""

import warnings
from typing import TYPE_CHECKING

# Avalanche loads qpsolvers, which greets all who have no solver; only GEM uses one.
warnings.filterwarnings("ignore", "no QP solver found", UserWarning, "qpsolvers")

if TYPE_CHECKING:
    from avalanche_mas.comparisons.own import (  # type: ignore[import-not-found]
        Comparison,
        compare_methods,
    )
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
        estimate_fisher,
    )
else:
    # Plugins need Avalanche, and comparisons all there is.
    _HOMES = "importance", "penalty.quadratic", "plugins", "comparisons.own"

    def __getattr__(name):
        """What needs PyTorch and Avalanche, which take seconds to load: commands have to answer."""
        from importlib import import_module

        for home in _HOMES if name in __all__ else ():
            try:
                module = import_module(f"{__name__}.{home}")
            except ModuleNotFoundError as error:
                if error.name != f"{__name__}.comparisons":
                    raise
                module = import_module("benchmarks.own")  # a clone, where it lies beside us
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__version__ = "0.2.0"

__all__ = [
    "Comparison",
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
    "compare_methods",
    "estimate_fisher",
    "estimate_importance",
    "estimate_local_importance",
    "watch_importance",
    "watch_local_importance",
]
