"""What is easily got wrong in each dataset; the people of Actions have a file of their own."""

import os

import numpy as np
import official_layout as layout
import pytest
from official_layout import colour, label_of, mat
from PIL import Image

from avalanche_mas.benchmarks.datasets import SVHN, Aircraft, Birds, Cars, Flowers, Letters, Scenes


def test_flowers_train_on_the_validation_set_too(tmp_path):
    layout.flowers(tmp_path, trn=[1, 2], val=[3, 1], tst=[2])
    train = Flowers(tmp_path, "train")
    assert train.targets == [0, 1, 2, 0]
    assert [label_of(image) for image, _ in train] == [0, 1, 2, 0]


def test_flowers_names(tmp_path):
    """The paper's Krishna Kamal is a passion flower, official label 77."""
    layout.flowers(tmp_path, trn=range(1, 103), val=[77], tst=[102])
    train, test = (Flowers(tmp_path, split) for split in ("train", "test"))
    assert train.classes[train.targets[-1]] == "passion flower"
    assert train.classes[0] == "pink primrose"
    assert test.classes[test.targets[0]] == "blackberry lily"


def test_scenes_not_in_the_lists(tmp_path):
    layout.scenes(tmp_path, train=["bar", "Bakery"], test=["bar"], unlisted=["bar", "cellar"])
    train, test = (Scenes(tmp_path, split) for split in ("train", "test"))
    assert (train.classes, train.targets) == (["Bakery", "bar"], [1, 0])
    assert (test.classes, test.targets) == (["Bakery", "bar"], [1])


def test_scenes_names_with_spaces_and_windows_line_ends(tmp_path):
    layout.scenes(tmp_path, train=["bar", "den"], test=["bar"])
    lists = tmp_path / "scenes-67/TrainImages.txt"
    lists.write_bytes(lists.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    train = Scenes(tmp_path, "train")
    assert train.images == ["Images/bar/Room 00001_b.JPG", "Images/den/Room 00002_b.JPG"]


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "1", "CMYK"])
def test_images_of_other_modes_become_rgb(tmp_path, mode):
    """Scenes has grey and indexed images among its .jpg files, Chars74K other oddities."""
    layout.scenes(tmp_path, train=["bar"], test=["bar"])
    path = tmp_path / "scenes-67/Images/bar/Room 00001_b.JPG"
    kind = "TIFF" if mode == "CMYK" else "PNG"
    Image.new("RGB", (6, 4), (200, 200, 200)).convert(mode).save(path, kind)
    image, _ = Scenes(tmp_path, "train")[0]
    assert (image.mode, image.size) == ("RGB", (6, 4))


def test_birds_by_number_and_not_by_line(tmp_path):
    """The four tables speak of the same images, in whatever order."""
    layout.birds(tmp_path, train=[1, 2, 3], test=[3, 2, 1])
    expected = Birds(tmp_path, "train")
    for name in ("image_class_labels.txt", "train_test_split.txt"):
        path = tmp_path / "CUB_200_2011" / name
        path.write_text("".join(sorted(path.read_text().splitlines(keepends=True), reverse=True)))
    train = Birds(tmp_path, "train")
    assert (train.images, train.targets) == (expected.images, expected.targets)


def test_cars_tests_are_not_read_from_the_devkit(tmp_path):
    """Its annotations of the test images have no classes."""
    layout.cars(tmp_path, train=[1, 2], test=[2, 1, 2])
    assert Cars(tmp_path, "test").targets == [1, 0, 1]
    folder = tmp_path / "stanford_cars"
    os.replace(folder / "devkit/cars_test_annos.mat", folder / "cars_test_annos_withlabels.mat")
    with pytest.raises(ValueError, match=r"cars_test_annos_withlabels\.mat has annotations with"):
        Cars(tmp_path, "test")


def test_cars_one_annotation(tmp_path):
    """A struct array of one entry loses its dimension when it is read."""
    layout.cars(tmp_path, train=[1], test=[1])
    assert [len(Cars(tmp_path, split)) for split in ("train", "test")] == [1, 1]


def test_aircraft_trainval_and_names_with_spaces(tmp_path):
    layout.aircraft(tmp_path, train=[0, 1], val=[1, 0], test=[1])
    train = Aircraft(tmp_path, "train")
    assert train.targets == [0, 1, 1, 0]
    assert train.classes == ["Wing 0 X-0/A", "Wing 1 X-1/A"]


def test_letters_have_no_digits_and_no_masks(tmp_path):
    layout.letters(tmp_path, good=dict.fromkeys("09AZ", 5), bad=dict.fromkeys("1Za", 5))
    train, test = (Letters(tmp_path, split) for split in ("train", "test"))
    images = train.images + test.images
    assert train.classes == ["A", "Z", "a"]
    assert len(images) == len(set(images)) == 20
    assert all("/Bmp/" in image for image in images)
    shown = {label_of(image) for image, _ in train}
    assert shown == {11, 36, 37}  # Sample011 is A, Sample036 is Z, Sample037 is a


def test_letters_selection(tmp_path):
    """8,000 of the 11,618, in proportion to the classes' sizes, and always the same ones."""
    names = layout.LETTERS[10:]
    layout.letters(
        tmp_path,
        good={letter: 50 + 4 * at for at, letter in enumerate(names)},
        bad=dict.fromkeys(names, 30),
    )
    total = sum(80 + 4 * at for at in range(52))
    train, test = (Letters(tmp_path, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (6850, 1150)
    assert not set(train.images) & set(test.images)
    for target in range(52):
        share = (80 + 4 * target) / total
        assert abs(test.targets.count(target) - 1150 * share) < 2
        assert abs(train.targets.count(target) - 6850 * share) < 3
    assert {image.split("/")[2] for image in test.images} == {"GoodImg", "BadImag"}
    for target in (0, 51):  # whatever order the file system lists them in
        images = [
            image for image, y in zip(train.images, train.targets, strict=True) if y == target
        ]
        assert images == sorted(images)


def test_svhn_ten_is_zero(tmp_path):
    layout.svhn(tmp_path, train=[10, 1, 9, *range(2, 9)], test=[10])
    train = SVHN(tmp_path, "train")
    assert train.targets[:3] == [0, 1, 9]
    assert train.classes[0] == "0"
    image, target = train[0]
    assert (image.size, image.getpixel((3, 30)), target) == ((32, 32), colour(10), 0)


def test_svhn_images_are_upright(tmp_path):
    """X is (row, column, channel, image)."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 10), np.uint8)
    layout.svhn(tmp_path, train=range(1, 11), test=[1])
    mat(tmp_path / "svhn/train_32x32.mat", X=pixels, y=np.arange(1, 11)[:, None])
    for at, (image, _) in enumerate(SVHN(tmp_path, "train")):
        assert np.array_equal(np.asarray(image), pixels[..., at])


def test_svhn_reads_no_pixels_until_asked(tmp_path):
    layout.svhn(tmp_path, train=range(1, 11), test=[1])
    train = SVHN(tmp_path, "train")
    (tmp_path / "svhn/train_32x32.mat").unlink()
    assert len(train) == 10
    with pytest.raises(FileNotFoundError, match=r"train_32x32\.mat is not there"):
        train[0]
