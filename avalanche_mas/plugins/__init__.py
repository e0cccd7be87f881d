"""Methods against forgetting, as Avalanche plugins.

Importing this package repairs what is broken in Avalanche 0.6.0, see
:mod:`avalanche_mas.training.compat`, unless the environment variable ``AVALANCHE_MAS_REPAIR`` is 0.
"""

import os

from avalanche_mas.plugins.base.measured import MeasuredPlugin
from avalanche_mas.plugins.base.regularization import RegularizationPlugin
from avalanche_mas.plugins.ebll import EBLLPlugin
from avalanche_mas.plugins.ewc import EWCPlugin, estimate_fisher
from avalanche_mas.plugins.imm import IMMPlugin
from avalanche_mas.plugins.lwf import LwFPlugin
from avalanche_mas.plugins.mas import LocalMASPlugin, MASPlugin
from avalanche_mas.plugins.si import SIPlugin
from avalanche_mas.plugins.warmup import HeadWarmupPlugin
from avalanche_mas.training.compat import repair_avalanche

if os.environ.get("AVALANCHE_MAS_REPAIR") != "0":
    repair_avalanche()

__all__ = [
    "EBLLPlugin",
    "EWCPlugin",
    "HeadWarmupPlugin",
    "IMMPlugin",
    "LocalMASPlugin",
    "LwFPlugin",
    "MASPlugin",
    "MeasuredPlugin",
    "RegularizationPlugin",
    "SIPlugin",
    "estimate_fisher",
]
