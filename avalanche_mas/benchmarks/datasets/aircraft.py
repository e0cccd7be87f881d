"""FGVC-Aircraft: variants of aircraft, such as Boeing 737-700."""

from typing import ClassVar

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.official import OfficialFile


class Aircraft(ImageDataset):
    """FGVC-Aircraft (Maji, Kannala, Rahtu, Blaschko and Vedaldi, 2013), whole images.

    The classes are the variants; ``train`` is the official list ``trainval``. The layout is that of
    torchvision's ``FGVCAircraft``. As there, the line about the copyright at the bottom of the
    images is left in.
    """

    key = "aircraft"
    title = "FGVC-Aircraft"
    sizes: ClassVar = {"train": 6667, "test": 3333}  # samples of the official lists
    n_classes = 100
    folder = "fgvc-aircraft-2013b"
    files = (
        OfficialFile(
            url="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/"
            "fgvc-aircraft-2013b.tar.gz",
            gives="fgvc-aircraft-2013b",
            sha256="e4e323d410e29f0370c81eabdcbb0e2b813acea1de22891b70b58ff41bfc9834",
            md5="d4acdd33327262359767eeaa97a4f732",
            size=2_753_340_328,
        ),
    )

    def _listing(self) -> Listing:
        classes = self.official.lines("data/variants.txt")
        position = {name: target for target, name in enumerate(classes)}
        part = "trainval" if self.split == "train" else "test"
        name = f"data/images_variant_{part}.txt"
        images, targets = [], []
        for line in self.official.lines(name):
            number, _, variant = line.partition(" ")  # the names of variants have spaces too
            if variant not in position:
                what = f"has the line {line!r}, but variants.txt has no variant {variant!r}"
                raise self.official.corrupt(name, what)
            images.append(f"data/images/{number}.jpg")
            targets.append(position[variant])
        return Listing(classes, images, targets)
