"""Incremental Moment Matching: the plugin, and the merging of solutions beside it."""

from avalanche_mas.plugins.imm.merging import mean_merge, mode_merge
from avalanche_mas.plugins.imm.plugin import IMMPlugin

__all__ = ["IMMPlugin", "mean_merge", "mode_merge"]
