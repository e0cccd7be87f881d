"""Encoder-based lifelong learning: the plugin, and the autoencoder beside it."""
