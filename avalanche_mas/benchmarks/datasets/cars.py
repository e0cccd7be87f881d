"""Stanford Cars: makes, models and years of cars."""

from typing import ClassVar

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.official import OfficialFile

_IMAGES = (
    "Kaggle's jessicali9530/stanford-cars-dataset has the images: its cars_train/cars_train and "
    "cars_test/cars_test are the folders cars_train and cars_test here"
)


class Cars(ImageDataset):
    """Stanford Cars (Krause, Stark, Deng and Fei-Fei, 2013), whole images.

    The layout is that of torchvision's ``StanfordCars``. The labels of the test images are in
    ``cars_test_annos_withlabels.mat``; ``devkit/cars_test_annos.mat`` has none.
    """

    key = "cars"
    title = "Stanford Cars"
    sizes: ClassVar = {"train": 8144, "test": 8041}  # samples of the official split
    n_classes = 196
    folder = "stanford_cars"
    files = (
        OfficialFile(
            url="http://ai.stanford.edu/~jkrause/car196/cars_train.tgz",
            gives="stanford_cars/cars_train",
            sha256="512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
            size=979_269_282,
            alive=False,
            mirror=_IMAGES,
        ),
        OfficialFile(
            url="http://ai.stanford.edu/~jkrause/car196/cars_test.tgz",
            gives="stanford_cars/cars_test",
            sha256="bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
            size=977_350_468,
            alive=False,
            mirror=_IMAGES,
        ),
        OfficialFile(
            url="https://ai.stanford.edu/~jkrause/cars/car_devkit.tgz",
            gives="stanford_cars/devkit",
            sha256="b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd",
            size=330_960,
            alive=False,
            mirror="https://github.com/pytorch/vision/files/11644847/car_devkit.tgz",
        ),
        OfficialFile(
            url="http://ai.stanford.edu/~jkrause/car196/cars_test_annos_withlabels.mat",
            gives="stanford_cars/cars_test_annos_withlabels.mat",
            sha256="790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
            size=185_758,
            alive=False,
            mirror="see https://github.com/pytorch/vision/issues/7545",
        ),
    )

    def _listing(self) -> Listing:
        name = "devkit/cars_train_annos.mat"
        if self.split == "test":
            name = "cars_test_annos_withlabels.mat"
        annotations = self.official.mat(name, "annotations")
        fields = annotations.dtype.names or ()
        if not {"fname", "class"} <= set(fields):
            raise self.official.corrupt(
                name,
                f"has annotations with the fields {', '.join(fields) or 'of no struct'}, but "
                "'fname' and 'class' are needed (devkit/cars_test_annos.mat has no classes)",
            )
        return Listing(
            classes=[str(car) for car in self.official.mat("devkit/cars_meta.mat", "class_names")],
            images=[f"cars_{self.split}/{file}" for file in annotations["fname"]],
            targets=[int(label) - 1 for label in annotations["class"]],
        )
