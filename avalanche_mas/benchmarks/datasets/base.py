"""What the eight datasets share: labels are read at once, images when they are asked for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from PIL import Image
from torch.utils.data import Dataset

from avalanche_mas.benchmarks.datasets.official import OfficialFile, OfficialFolder

SPLITS = ("train", "test")


class Listing(NamedTuple):
    """The samples of a split, in the official order."""

    classes: list[str]  # the same in all splits
    images: list[str]  # for each sample the path of its image in the dataset's folder
    targets: list[int]  # for each sample the position of its class in `classes`


class ImageDataset(Dataset[tuple[Any, int]], ABC):
    """Images and the classes of what they show, from files in their official layout.

    Samples are ``(image, target)``: an RGB image of PIL, or what ``transform`` makes of it, and the
    position of its class in :attr:`classes`. Lists and annotations are read, and listed images
    looked for, when the dataset is made; an image is opened when its sample is asked for.

    The number of samples is what the files say, so small copies in the same layout can be read
    too.

    :param root: the ROOT that holds one folder for each dataset.
    :param split: ``train`` or ``test``.
    :param transform: is applied to the image.
    :raises FileNotFoundError: if the dataset, or a file of it, is missing.
    :raises ValueError: if ``split`` is unknown, or a file is not what it should be.
    """

    key: ClassVar[str]
    """Its short name."""

    title: ClassVar[str]
    """Its full name."""

    sizes: ClassVar[dict[str, int]]
    """The official number of samples of each split."""

    n_classes: ClassVar[int]
    """The official number of classes."""

    folder: ClassVar[str]
    """Its folder under ROOT."""

    files: ClassVar[tuple[OfficialFile, ...]]
    """The official files that it is made of."""

    def __init__(
        self, root: str | Path, split: str = "train", transform: Callable[[Any], Any] | None = None
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}: give one of {', '.join(SPLITS)}")
        self.official = OfficialFolder(root, self.folder, self.files)
        self.split = split
        self.transform = transform
        self.classes, self.images, self.targets = self._listing()
        self._check()

    @abstractmethod
    def _listing(self) -> Listing:
        """Read the official lists and labels of the split."""

    def _open(self, index: int) -> Image.Image:
        """Read the image of a sample."""
        return self.official.image(self.images[index])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self._open(index)
        return image if self.transform is None else self.transform(image), self.targets[index]

    def _check(self) -> None:
        """Find before training what would else fail in the middle of it."""
        if not self.targets:
            raise self.official.corrupt("", f"has no {self.split} samples")
        for image, target in zip(self.images, self.targets, strict=True):
            if not 0 <= target < len(self.classes):
                what = f"gives {image} the label {target + 1}, but has {len(self.classes)} classes"
                raise self.official.corrupt("", what)
        empty = set(range(len(self.classes))) - set(self.targets)
        if empty and self.split == "train":
            names = ", ".join(self.classes[target] for target in sorted(empty))
            raise self.official.corrupt("", f"has no training image of {names}")
        self.official.must_hold(self.images)
