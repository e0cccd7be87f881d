"""Caltech-UCSD Birds-200-2011: birds of North America."""

from collections import Counter
from typing import ClassVar

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.official import OfficialFile


class Birds(ImageDataset):
    """CUB-200-2011 (Wah, Branson, Welinder, Perona and Belongie, 2011).

    An image is given whole. Avalanche's ``CUB200`` cuts out the bird's bounding box, which the
    paper does not. The paper cites the dataset's edition of 2010, but its 5,994 training images
    are those of 2011.
    """

    key = "birds"
    title = "Caltech-UCSD Birds-200-2011"
    sizes: ClassVar = {"train": 5994, "test": 5794}  # samples of the official split
    n_classes = 200
    folder = "CUB_200_2011"
    files = (
        OfficialFile(
            url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
            gives="CUB_200_2011",
            sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            size=1_150_585_339,
            mirror="https://s3.amazonaws.com/fast-ai-imageclas/CUB_200_2011.tgz",
        ),
    )

    def _listing(self) -> Listing:
        names = self._table("classes.txt")  # number of a class → its name
        position = {number: target for target, number in enumerate(names)}
        labels = self._table("image_class_labels.txt")  # number of an image → of its class
        training = self._table("train_test_split.txt")  # number of an image → 1 or 0
        tables = {"image_class_labels.txt": labels, "train_test_split.txt": training}
        wanted = "1" if self.split == "train" else "0"
        images, targets = [], []
        for number, image in self._table("images.txt").items():
            for name, table in tables.items():
                if number not in table:
                    raise self.official.corrupt(name, f"says nothing of image {number} ({image})")
            if labels[number] not in position:
                what = f"gives image {number} the label {labels[number]}, which classes.txt has not"
                raise self.official.corrupt("image_class_labels.txt", what)
            if training[number] == wanted:
                images.append(f"images/{image}")
                targets.append(position[labels[number]])
        return Listing(list(names.values()), images, targets)

    def _table(self, name: str) -> dict[str, str]:
        """Read lines ``<number> <value>``, one for each number."""
        rows = [line.partition(" ") for line in self.official.lines(name)]
        for number, space, value in rows:
            if not space:
                what = f"has the line {number + value!r} without two words"
                raise self.official.corrupt(name, what)
        table = {number: value.strip() for number, _, value in rows}
        if len(table) < len(rows):
            ((twice, _),) = Counter(number for number, *_ in rows).most_common(1)
            raise self.official.corrupt(name, f"has two lines for {twice}")
        return table
