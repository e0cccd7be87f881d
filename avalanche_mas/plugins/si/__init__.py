"""Synaptic Intelligence: the plugin, and the path integral beside it."""
