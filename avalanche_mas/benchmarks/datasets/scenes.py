"""MIT Indoor-67: photographs of rooms and other places indoors."""

from collections.abc import Iterator
from typing import ClassVar

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.official import OfficialFile


class Scenes(ImageDataset):
    """MIT Indoor Scenes (Quattoni and Torralba, CVPR 2009).

    The archive holds 15,620 images. Only the 6,700 in the two official lists are used; copies of
    the dataset elsewhere come without the lists.
    """

    key = "scenes"
    title = "MIT Indoor Scenes"
    # Samples of the official lists, about 80 and 20 of each class.
    sizes: ClassVar = {"train": 5360, "test": 1340}
    n_classes = 67
    folder = "scenes-67"
    files = (
        OfficialFile(
            url="http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar",
            gives="scenes-67/Images",
            md5="5d176e5f0e56624a453f2fe0d8b19ff7",
            alive=False,
            mirror="the images are on Hugging Face as Voxel51/IndoorSceneRecognition and "
            "NeoKish/indoorCVPR_09; lay them out as Images/<class>/<file>",
        ),
        OfficialFile(
            url="http://web.mit.edu/torralba/www/TrainImages.txt",
            gives="scenes-67/TrainImages.txt",
            sha256="7ec85f88735739d8159061e4bcf6a9765aab8606ab444605b3f8e0641be0260e",
        ),
        OfficialFile(
            url="http://web.mit.edu/torralba/www/TestImages.txt",
            gives="scenes-67/TestImages.txt",
            sha256="906c529a5a0918feec371de5b07a465ddb1f15ebaebc90a33cc321c371133bf1",
        ),
    )

    def _listing(self) -> Listing:
        # The classes of both splits are those that can be learned, in alphabetical order.
        classes = sorted({scene for scene, _ in self._lines("train")})
        position = {name: target for target, name in enumerate(classes)}
        images, targets = [], []
        for scene, line in self._lines(self.split):
            if scene not in position:
                raise self.official.corrupt(
                    f"{self.split.capitalize()}Images.txt",
                    f"has the class {scene!r}, which TrainImages.txt has not",
                )
            images.append(f"Images/{line}")
            targets.append(position[scene])
        return Listing(classes, images, targets)

    def _lines(self, split: str) -> Iterator[tuple[str, str]]:
        """Read the class of each line, and the line."""
        name = f"{split.capitalize()}Images.txt"
        for line in self.official.lines(name):
            scene, slash, _ = line.partition("/")
            if not slash:
                what = f"has the line {line!r} instead of <class>/<file>"
                raise self.official.corrupt(name, what)
            yield scene, line
