"""A small drawn copy of 6DS, in the layout of its PyTorch release, with word vectors."""

from avalanche_mas.miniature.facts.writing import WORD_VECTORS, fact_miniature

__all__ = ["WORD_VECTORS", "fact_miniature"]
