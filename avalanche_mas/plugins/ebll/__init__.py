"""Encoder-based lifelong learning: the plugin, and the autoencoder beside it."""

from avalanche_mas.plugins.ebll.autoencoder import train_encoder
from avalanche_mas.plugins.ebll.plugin import EBLLPlugin

__all__ = ["EBLLPlugin", "train_encoder"]
