"""Incremental moment matching: the plugin, and the merging of networks beside it."""
