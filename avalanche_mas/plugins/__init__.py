"""Regularisation methods as Avalanche plugins."""

from avalanche_mas.plugins.base.measured import MeasuredPlugin
from avalanche_mas.plugins.base.regularization import RegularizationPlugin
from avalanche_mas.plugins.ebll.plugin import EBLLPlugin
from avalanche_mas.plugins.ewc.plugin import EWCPlugin
from avalanche_mas.plugins.imm.plugin import IMMPlugin
from avalanche_mas.plugins.local_mas import LocalMASPlugin
from avalanche_mas.plugins.lwf.plugin import LwFPlugin
from avalanche_mas.plugins.mas import MASPlugin
from avalanche_mas.plugins.si.plugin import SIPlugin
from avalanche_mas.plugins.warmup import HeadWarmupPlugin
from avalanche_mas.training.compat import repair_autocast, repair_checkpointing, repair_wandb

repair_checkpointing()
repair_wandb()
repair_autocast()

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
]
