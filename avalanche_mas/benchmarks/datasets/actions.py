"""PASCAL VOC2012 Actions: what people in photographs are doing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from xml.etree import ElementTree

from PIL import Image

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.official import OfficialFile

CLASSES = (
    "other",
    "jumping",
    "phoning",
    "playinginstrument",
    "reading",
    "ridingbike",
    "ridinghorse",
    "running",
    "takingphoto",
    "usingcomputer",
    "walking",
)
"""In the order of the official development kit, where ``other`` comes first."""


class Box(NamedTuple):
    """A rectangle in pixels: the first column and row in it, and the first ones after it."""

    left: float
    top: float
    right: float
    bottom: float


class Actions(ImageDataset):
    """PASCAL VOC2012 action classification (Everingham and others): one sample per person.

    ``train`` and ``test`` are the official sets ``train`` and ``val``; the labels of the official
    test set are not public. A person is an object of an image's annotation, counted from 1 as in
    the official lists of each action. People with several actions are left out, as the sizes of
    the sets in the literature show (3,102 and 3,108). Who does none of the ten is ``other``.

    The image of a sample is its person's box, widened by ``padding`` of its width to the left and
    to the right and by ``padding`` of its height upwards and downwards, as far as the image goes.
    How the paper cut people out is not published. What someone holds or rides is often outside the
    box, so a quarter is added by default.

    :param root: the ROOT that holds one folder for each dataset.
    :param split: ``train`` or ``test``.
    :param transform: is applied to the image.
    :param padding: the share of the box's side that is added on each side, at least 0.
    :raises FileNotFoundError: if the dataset, or a file of it, is missing.
    :raises ValueError: if an argument is out of its range, or a file is not what it should be.
    """

    key = "actions"
    title = "PASCAL VOC2012 Actions"
    # Of 3,134 and 3,144 people, without the 32 and 36 who do two things at once.
    sizes: ClassVar = {"train": 3102, "test": 3108}
    n_classes = len(CLASSES)
    folder = "VOCdevkit/VOC2012"
    files = (
        OfficialFile(
            url="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            folder=".",
            gives="VOCdevkit/VOC2012",
            sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            size=1_999_639_040,
            mirror="https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
        ),
    )

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable[[Any], Any] | None = None,
        padding: float = 0.25,
    ) -> None:
        if not padding >= 0.0:
            raise ValueError(f"padding is {padding}: give a share of the box's side, at least 0")
        self.padding = padding
        self.boxes: list[Box] = []  # of each sample, without padding
        super().__init__(root, split, transform)

    def _listing(self) -> Listing:
        images, targets = [], []
        annotations: dict[str, list[ElementTree.Element]] = {}
        for (image, number), actions in self._people().items():
            if len(actions) > 1:
                continue
            name = f"Annotations/{image}.xml"
            if image not in annotations:
                annotations[image] = self.official.xml(name).findall("object")
            self.boxes.append(self._box(name, annotations[image], number))
            images.append(f"JPEGImages/{image}.jpg")
            targets.append(CLASSES.index(actions[0]) if actions else CLASSES.index("other"))
        return Listing(list(CLASSES), images, targets)

    def _people(self) -> dict[tuple[str, int], list[str]]:
        """Map image and number of each person to the actions, less ``other``, that they do.

        The order is that of the lists. There need not be one for ``other``.
        """
        part = "train" if self.split == "train" else "val"
        people: dict[tuple[str, int], list[str]] = {}
        for action in CLASSES[1:]:
            name = f"ImageSets/Action/{action}_{part}.txt"
            for line in self.official.lines(name):
                try:
                    image, number, does = line.split()
                    actions = people.setdefault((image, int(number)), [])
                    actions += [action] if int(does) > 0 else []
                except ValueError as error:
                    raise self.official.corrupt(
                        name, f"has the line {line!r} instead of <image> <object> <1 or -1>"
                    ) from error
        return people

    def _box(self, name: str, objects: list[ElementTree.Element], number: int) -> Box:
        """Take the box of object ``number``; official pixels count from 1, and both ends belong."""
        if not 1 <= number <= len(objects):
            what = f"has {len(objects)} objects, but the lists of actions name object {number}"
            raise self.official.corrupt(name, what)
        kind = objects[number - 1].findtext("name")
        if kind != "person":
            what = f"says that object {number} is a {kind}, but the lists of actions name it"
            raise self.official.corrupt(name, what)
        corners = ("xmin", "ymin", "xmax", "ymax")
        try:
            left, top, right, bottom = (
                float(objects[number - 1].findtext(f"bndbox/{corner}", "")) for corner in corners
            )
        except ValueError as error:
            raise self.official.corrupt(name, f"has no box for object {number}") from error
        if not (left <= right and top <= bottom):
            raise self.official.corrupt(name, f"has an empty box for object {number}")
        return Box(left - 1, top - 1, right, bottom)

    def _open(self, index: int) -> Image.Image:
        image = super()._open(index)
        left, top, right, bottom = self.boxes[index]
        across, down = self.padding * (right - left), self.padding * (bottom - top)
        padded = (
            max(0, round(left - across)),
            max(0, round(top - down)),
            min(image.width, round(right + across)),
            min(image.height, round(bottom + down)),
        )
        if not (padded[0] < padded[2] and padded[1] < padded[3]):
            size = f"{image.width} × {image.height} pixels"
            what = f"is {size}, but the box of a person is {padded}"
            raise self.official.corrupt(self.images[index], what)
        return image.crop(padded)
