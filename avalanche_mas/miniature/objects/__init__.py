"""A small drawn copy of the eight datasets, in the layouts of the official files."""

from avalanche_mas.miniature.objects.writing import miniature

__all__ = ["miniature"]
