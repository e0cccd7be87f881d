"""Oxford Flowers-102: flowers that are common in the United Kingdom."""

from typing import ClassVar, cast

import numpy as np
from torchvision.datasets import Flowers102

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.official import OfficialFile

_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
_NAMES = cast("list[str]", Flowers102.classes)  # in the order of the official labels, from 1


class Flowers(ImageDataset):
    """Oxford Flowers-102 (Nilsback and Zisserman, ICVGIP 2008).

    ``train`` is the official training set followed by the official validation set, as in the
    paper. Torchvision's ``Flowers102`` has them apart and accepts no other label files than the
    official ones, so only its names of the classes are used.

    Official labels that no image has are left out and the others numbered from 0. All 102 occur in
    the official files.
    """

    key = "flowers"
    title = "Oxford Flowers-102"
    # Samples of the official files: training and validation set together, and the test set.
    sizes: ClassVar = {"train": 2040, "test": 6149}
    n_classes = 102
    folder = "flowers-102"
    files = (
        OfficialFile(
            url=f"{_URL}102flowers.tgz",
            gives="flowers-102/jpg",
            sha256="2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
            size=344_862_509,
        ),
        OfficialFile(
            url=f"{_URL}imagelabels.mat",
            gives="flowers-102/imagelabels.mat",
            sha256="4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
            size=502,
        ),
        OfficialFile(
            url=f"{_URL}setid.mat",
            gives="flowers-102/setid.mat",
            sha256="46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
            size=14_989,
        ),
    )

    def _listing(self) -> Listing:
        labels = self.official.mat("imagelabels.mat", "labels").astype(int)
        if not 1 <= labels.min() <= labels.max() <= len(_NAMES):
            what = f"has labels from {labels.min()} to {labels.max()} instead of 1 to {len(_NAMES)}"
            raise self.official.corrupt("imagelabels.mat", what)
        parts = ("trnid", "valid") if self.split == "train" else ("tstid",)
        numbers = np.concatenate([self.official.mat("setid.mat", part) for part in parts])
        numbers = numbers.astype(int)  # of images, from 1
        if not 1 <= numbers.min() <= numbers.max() <= len(labels):
            listed = f"lists images {numbers.min()} to {numbers.max()}"
            raise self.official.corrupt(
                "setid.mat", f"{listed}, but there are {len(labels)} labels"
            )
        present = np.unique(labels)
        return Listing(
            classes=[_NAMES[label - 1] for label in present],
            images=[f"jpg/image_{number:05d}.jpg" for number in numbers],
            targets=np.searchsorted(present, labels[numbers - 1]).tolist(),
        )
