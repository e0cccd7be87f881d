"""Learning without Forgetting: the plugin, and distillation beside it."""

from avalanche_mas.plugins.lwf.distillation import distillation_loss
from avalanche_mas.plugins.lwf.plugin import LwFPlugin

__all__ = ["LwFPlugin", "distillation_loss"]
