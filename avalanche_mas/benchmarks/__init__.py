"""Continual-learning benchmarks, ready for Avalanche's strategies."""

from avalanche_mas.benchmarks.digits import permuted_digits, split_digits

__all__ = ["permuted_digits", "split_digits"]
