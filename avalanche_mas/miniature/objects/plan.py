"""How many pictures a miniature has, which are for training, and what chance each starts from."""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Picture(NamedTuple):
    """One picture to be drawn."""

    label: int  # from 0
    number: int  # within its class and split, from 0
    train: bool


@dataclass(frozen=True)
class Plan:
    """What a miniature is made with.

    :param images_per_class: training pictures of a class; half as many, rounded up, are for tests.
    :param size: the height of a picture in pixels; house numbers have always 32.
    :param seed: another seed draws other pictures of the same classes.
    """

    images_per_class: int
    size: int
    seed: int

    @property
    def tests_per_class(self) -> int:
        """How many test pictures a class has."""
        return -(-self.images_per_class // 2)

    def rng(self, dataset: str, *key: int) -> np.random.Generator:
        """Make the generator of one picture, which no other picture shares."""
        return np.random.default_rng([self.seed, zlib.crc32(dataset.encode()), *key])

    def pictures(self, dataset: str, classes: int) -> list[tuple[Picture, np.random.Generator]]:
        """List the pictures of a dataset, class after class, training before test."""
        counts = {True: self.images_per_class, False: self.tests_per_class}
        found = [
            Picture(label, number, train)
            for label in range(classes)
            for train, count in counts.items()
            for number in range(count)
        ]
        return [(p, self.rng(dataset, p.label, p.number, p.train)) for p in found]

    def shuffled(self, dataset: str, classes: int) -> list[tuple[Picture, np.random.Generator]]:
        """List the same pictures in a mixed order, as photographs of unlike sources come."""
        pictures = self.pictures(dataset, classes)
        return [pictures[at] for at in self.rng(dataset).permutation(len(pictures))]
