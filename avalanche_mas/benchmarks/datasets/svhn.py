"""SVHN: digits cut out of house numbers."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.official import OfficialFile

_URL = "http://ufldl.stanford.edu/housenumbers/"


class SVHN(ImageDataset):
    """Street View House Numbers, cropped (Netzer and others, 2011).

    The official label 10 of the digit 0 becomes class 0, as in torchvision's ``SVHN``, which reads
    no other files than the official ones. All images of a split are in one compressed file: it is
    read, once, when the first image is asked for.
    """

    key = "svhn"
    title = "Street View House Numbers"
    # Samples of the official files, without the 531,131 extra ones.
    sizes: ClassVar = {"train": 73257, "test": 26032}
    n_classes = 10
    folder = "svhn"
    files = (
        OfficialFile(
            url=f"{_URL}train_32x32.mat",
            gives="svhn/train_32x32.mat",
            sha256="435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            size=182_040_794,
        ),
        OfficialFile(
            url=f"{_URL}test_32x32.mat",
            gives="svhn/test_32x32.mat",
            sha256="cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            size=64_275_384,
        ),
    )

    _pixels: NDArray[np.uint8] | None = None  # (32, 32, 3, n), as in the file

    def _listing(self) -> Listing:
        name = f"{self.split}_32x32.mat"
        labels = self.official.mat(name, "y").astype(int)
        if not 1 <= labels.min() <= labels.max() <= 10:
            what = f"has labels from {labels.min()} to {labels.max()} instead of 1 to 10"
            raise self.official.corrupt(name, what)
        digits = [str(digit) for digit in range(10)]
        return Listing(digits, [name] * len(labels), (labels % 10).tolist())

    def _open(self, index: int) -> Image.Image:
        if self._pixels is None:
            self._pixels = self._read()
        return Image.fromarray(np.ascontiguousarray(self._pixels[..., index]))

    def _read(self) -> NDArray[np.uint8]:
        name = self.images[0]
        pixels = self.official.mat(name, "X")
        pixels = pixels[..., None] if pixels.ndim == 3 else pixels  # of a single image
        shape = (32, 32, 3, len(self.targets))
        if pixels.shape != shape or pixels.dtype != np.uint8:
            found = f"has X of shape {pixels.shape} and type {pixels.dtype}"
            raise self.official.corrupt(name, f"{found} instead of {shape} and uint8")
        return np.asarray(pixels)

    def __getstate__(self) -> dict[str, Any]:
        # What is written to a checkpoint or sent to another process reads the file again.
        return {name: value for name, value in self.__dict__.items() if name != "_pixels"}
