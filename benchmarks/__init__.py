"""Comparisons of Memory Aware Synapses with other methods: ``python -m benchmarks --help``."""
