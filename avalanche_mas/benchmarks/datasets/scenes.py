"""MIT Indoor-67: photographs of rooms and other places indoors."""

from __future__ import annotations

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.info import DatasetInfo, OfficialFile

SIZES = {"train": 5360, "test": 1340}
"""Samples of the official lists, about 80 and 20 of each class."""


class Scenes(ImageDataset):
    """MIT Indoor Scenes (Quattoni and Torralba, CVPR 2009).

    The archive holds 15,620 images. Only the 6,700 in the two official lists are used; copies of
    the dataset elsewhere come without the lists.
    """

    folder = "scenes-67"
    files = (
        OfficialFile(
            name="indoorCVPR_09.tar",
            url="http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar",
            folder="scenes-67",
            gives="scenes-67/Images",
            md5="5d176e5f0e56624a453f2fe0d8b19ff7",
            alive=False,
            mirror="the images are on Hugging Face as Voxel51/IndoorSceneRecognition and "
            "NeoKish/indoorCVPR_09; lay them out as Images/<class>/<file>",
        ),
        OfficialFile(
            name="TrainImages.txt",
            url="http://web.mit.edu/torralba/www/TrainImages.txt",
            folder="scenes-67",
            gives="scenes-67/TrainImages.txt",
            md5="fd987513d0f623c424252770fac3f354",
            sha256="7ec85f88735739d8159061e4bcf6a9765aab8606ab444605b3f8e0641be0260e",
        ),
        OfficialFile(
            name="TestImages.txt",
            url="http://web.mit.edu/torralba/www/TestImages.txt",
            folder="scenes-67",
            gives="scenes-67/TestImages.txt",
            md5="f00bef137f39d51e4894303a7bf4c2d4",
            sha256="906c529a5a0918feec371de5b07a465ddb1f15ebaebc90a33cc321c371133bf1",
        ),
    )

    def _listing(self) -> Listing:
        lists = {"train": "TrainImages.txt", "test": "TestImages.txt"}
        # The classes of both splits are those that can be learned, in alphabetical order.
        classes = sorted({self._scene(lists["train"], line) for line in self._lines("train")})
        position = {name: target for target, name in enumerate(classes)}
        images, targets = [], []
        for line in self._lines(self.split):
            scene = self._scene(lists[self.split], line)
            if scene not in position:
                raise self.official.corrupt(
                    self.official.path / lists[self.split],
                    f"has the class {scene!r}, which {lists['train']} has not",
                )
            images.append(f"Images/{line}")
            targets.append(position[scene])
        return Listing(classes, images, targets)

    def _lines(self, split: str) -> list[str]:
        return self.official.lines(f"{split.capitalize()}Images.txt")

    def _scene(self, name: str, line: str) -> str:
        scene, slash, _ = line.partition("/")
        if not slash:
            raise self.official.corrupt(
                self.official.path / name, f"has the line {line!r} instead of <class>/<file>"
            )
        return scene


INFO = DatasetInfo("scenes", "MIT Indoor Scenes", Scenes, SIZES, n_classes=67)
