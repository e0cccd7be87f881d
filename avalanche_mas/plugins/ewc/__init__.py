"""Elastic Weight Consolidation: the plugin, and the Fisher information beside it."""
