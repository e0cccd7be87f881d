"""6DS: pictures of facts, in both of its releases, and the embeddings of facts."""

from avalanche_mas.benchmarks.facts.csv_release import read_csv_release
from avalanche_mas.benchmarks.facts.fact import SPORTS, Fact, sports_facts
from avalanche_mas.benchmarks.facts.mat_release import read_mat_release
from avalanche_mas.benchmarks.facts.release import FactImage, Release
from avalanche_mas.benchmarks.facts.splits import cluster_split, random_split, starting_with
from avalanche_mas.benchmarks.facts.word_vectors import (
    SYNONYMS,
    UnknownWordsError,
    embed_facts,
    embed_units,
    load_word_vectors,
)

__all__ = [
    "SPORTS",
    "SYNONYMS",
    "Fact",
    "FactImage",
    "Release",
    "UnknownWordsError",
    "cluster_split",
    "embed_facts",
    "embed_units",
    "load_word_vectors",
    "random_split",
    "read_csv_release",
    "read_mat_release",
    "sports_facts",
    "starting_with",
]
