"""The eight datasets of the paper's object recognition tasks, in their official layouts.

A folder ROOT holds one folder for each dataset, with what the official archives hold; copies of any
size in the same layout can be read.
"""

from avalanche_mas.benchmarks.datasets.actions import Actions
from avalanche_mas.benchmarks.datasets.aircraft import Aircraft
from avalanche_mas.benchmarks.datasets.base import ImageDataset
from avalanche_mas.benchmarks.datasets.birds import Birds
from avalanche_mas.benchmarks.datasets.cars import Cars
from avalanche_mas.benchmarks.datasets.flowers import Flowers
from avalanche_mas.benchmarks.datasets.letters import Letters
from avalanche_mas.benchmarks.datasets.official import OfficialFile
from avalanche_mas.benchmarks.datasets.scenes import Scenes
from avalanche_mas.benchmarks.datasets.svhn import SVHN

DATASETS: dict[str, type[ImageDataset]] = {
    dataset.key: dataset
    for dataset in (Flowers, Scenes, Birds, Cars, Aircraft, Actions, Letters, SVHN)
}
"""The datasets by their short names, in the order of the paper's sequence of eight tasks."""

__all__ = [
    "DATASETS",
    "SVHN",
    "Actions",
    "Aircraft",
    "Birds",
    "Cars",
    "Flowers",
    "ImageDataset",
    "Letters",
    "OfficialFile",
    "Scenes",
]
