"""Regularisation methods as Avalanche plugins."""

from avalanche_mas.compat import repair_checkpointing
from avalanche_mas.plugins.local_mas import LocalMASPlugin
from avalanche_mas.plugins.mas import MASPlugin
from avalanche_mas.plugins.measured import MeasuredPlugin
from avalanche_mas.plugins.regularization import RegularizationPlugin

repair_checkpointing()

__all__ = ["LocalMASPlugin", "MASPlugin", "MeasuredPlugin", "RegularizationPlugin"]
