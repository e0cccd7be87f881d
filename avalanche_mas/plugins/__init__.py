"""Regularisation methods as Avalanche plugins."""

from avalanche_mas.compat import repair_autocast, repair_checkpointing, repair_wandb
from avalanche_mas.plugins.ebll import EBLLPlugin
from avalanche_mas.plugins.ewc import EWCPlugin
from avalanche_mas.plugins.imm import IMMPlugin
from avalanche_mas.plugins.local_mas import LocalMASPlugin
from avalanche_mas.plugins.lwf import LwFPlugin
from avalanche_mas.plugins.mas import MASPlugin
from avalanche_mas.plugins.measured import MeasuredPlugin
from avalanche_mas.plugins.regularization import RegularizationPlugin
from avalanche_mas.plugins.si import SIPlugin
from avalanche_mas.plugins.warmup import HeadWarmupPlugin

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
