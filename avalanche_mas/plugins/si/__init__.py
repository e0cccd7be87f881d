"""Synaptic Intelligence: the plugin, and the path integral beside it."""

from avalanche_mas.plugins.si.path_integral import PathIntegral
from avalanche_mas.plugins.si.plugin import SIPlugin

__all__ = ["PathIntegral", "SIPlugin"]
