"""Elastic Weight Consolidation: the plugin, and the Fisher information beside it."""

from avalanche_mas.plugins.ewc.fisher import estimate_fisher
from avalanche_mas.plugins.ewc.plugin import EWCPlugin

__all__ = ["EWCPlugin", "estimate_fisher"]
