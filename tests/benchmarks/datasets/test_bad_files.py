"""One clear error for each thing that can be wrong with files: it names the file and the remedy."""

import re
import shutil

import numpy as np
import pytest
from official_layout import all_eight, mat
from PIL import Image

from avalanche_mas.benchmarks.datasets import DATASETS

LISTS = {
    "flowers": "setid.mat",
    "scenes": "TrainImages.txt",
    "birds": "images.txt",
    "cars": "devkit/cars_train_annos.mat",
    "aircraft": "data/images_variant_trainval.txt",
    "actions": "ImageSets/Action/reading_train.txt",
    "svhn": "train_32x32.mat",
}
IMAGES = [key for key in DATASETS if key != "svhn"]


@pytest.fixture
def root(tmp_path):
    return all_eight(tmp_path)


def make(root, key, split="train"):
    return DATASETS[key](root, split)


def first_image(root, key):
    dataset = make(root, key)
    return dataset.official.path / dataset.images[0]


def fails(kind, path, *words):
    """Expects an error of this kind with a path, the words, and an address to get the file from."""
    parts = [re.escape(str(path)), *words, "http"]
    return pytest.raises(kind, match="(?s)" + ".*".join(parts))


@pytest.mark.parametrize("key", DATASETS)
def test_no_dataset(tmp_path, key):
    info = DATASETS[key]
    with fails(FileNotFoundError, tmp_path / info.folder, "does not exist") as error:
        make(tmp_path, key)
    for file in info.files:
        assert file.gives in str(error.value)
        assert file.where_to_get(str(tmp_path)) in str(error.value)


@pytest.mark.parametrize(
    ("key", "at"), [(key, at) for key, info in DATASETS.items() for at in range(len(info.files))]
)
def test_part_of_a_dataset_is_missing(root, key, at):
    info = DATASETS[key]
    gone = info.files[at]
    path = root / gone.gives
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with fails(FileNotFoundError, root / info.folder, "Missing: ") as error:
        make(root, key)
    assert gone.where_to_get(str(root)) in str(error.value)
    others = [file for file in info.files if file is not gone]
    assert not any(file.where_to_get(str(root)) in str(error.value) for file in others)


@pytest.mark.parametrize("key", IMAGES)
def test_truncated_image(root, key):
    """It is not opened before it is needed; then the error names it."""
    path = first_image(root, key)
    path.write_bytes(path.read_bytes()[:-60])
    dataset = make(root, key)
    with fails(ValueError, path, "cannot be read as an image", "replace it"):
        dataset[0]


@pytest.mark.parametrize("key", IMAGES)
def test_not_an_image(root, key):
    path = first_image(root, key)
    path.write_bytes(b"<html>404</html>")
    with fails(ValueError, path, "cannot be read as an image", "replace it"):
        make(root, key)[0]


@pytest.mark.parametrize("key", [key for key in IMAGES if key != "letters"])
def test_a_listed_image_is_missing(root, key):
    """Known before training. Letters has no lists: what is not there is not expected."""
    path = first_image(root, key)
    path.unlink()
    with fails(FileNotFoundError, path, "is listed, but is not there", "1 are missing"):
        make(root, key)


@pytest.mark.parametrize("key", IMAGES)
def test_an_image_disappears(root, key):
    dataset = make(root, key)
    path = dataset.official.path / dataset.images[0]
    path.unlink()
    with fails(FileNotFoundError, path, "is not there"):
        dataset[0]


@pytest.mark.parametrize(("key", "name"), LISTS.items())
def test_corrupt_list(root, key, name):
    path = root / DATASETS[key].folder / name
    path.write_bytes(b"\xff\xfe\x00 not what it should be" * 9)
    with fails(ValueError, path, "(MATLAB|text file)", "replace it"):
        make(root, key)


@pytest.mark.parametrize("key", ["flowers", "cars", "svhn"])
def test_truncated_mat(root, key):
    path = root / DATASETS[key].folder / LISTS[key]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with fails(ValueError, path, "MATLAB", "replace it"):
        make(root, key)


@pytest.mark.parametrize("key", ["scenes", "birds", "aircraft", "actions"])
def test_list_cut_off_within_a_line(root, key):
    """Between two lines it would not show: the checksums of the command line do."""
    path = root / DATASETS[key].folder / LISTS[key]
    path.write_bytes(path.read_bytes().rstrip()[:-1])
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(str(root))):
        make(root, key, "train"), make(root, key, "test")


@pytest.mark.parametrize("key", ["scenes", "birds", "aircraft", "actions"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_list(root, key, content):
    path = root / DATASETS[key].folder / LISTS[key]
    path.write_text(content)
    with fails(ValueError, path, "is empty: replace it"):
        make(root, key)


@pytest.mark.parametrize("key", ["scenes", "birds", "aircraft", "actions"])
def test_a_line_that_is_no_entry(root, key):
    path = root / DATASETS[key].folder / LISTS[key]
    path.write_text("nonsense\n" + path.read_text())
    with fails(ValueError, path, "nonsense", "replace it"):
        make(root, key)


@pytest.mark.parametrize("key", ["flowers", "cars", "svhn"])
def test_no_such_variable(root, key):
    path = root / DATASETS[key].folder / LISTS[key]
    mat(path, something=np.ones(3))
    with fails(ValueError, path, "has no variable", "replace it"):
        make(root, key)


@pytest.mark.parametrize("label", [0, 103])
def test_flowers_label_out_of_range(root, label):
    path = root / "flowers-102/imagelabels.mat"
    mat(path, labels=np.array([[label] * 10]))
    with fails(ValueError, path, f"labels from {label} to {label} instead of 1 to 102"):
        make(root, "flowers")


def test_flowers_image_out_of_range(root):
    mat(root / "flowers-102/setid.mat", trnid=[[1]], valid=[[11]], tstid=[[2]])
    with fails(ValueError, root / "flowers-102/setid.mat", "lists images 1 to 11", "10 labels"):
        make(root, "flowers")


def test_svhn_label_out_of_range(root):
    path = root / "svhn/test_32x32.mat"
    mat(path, X=np.zeros((32, 32, 3, 2), np.uint8), y=[[11], [1]])
    with fails(ValueError, path, "labels from 1 to 11 instead of 1 to 10"):
        make(root, "svhn", "test")


def test_svhn_images_and_labels_do_not_match(root):
    path = root / "svhn/test_32x32.mat"
    mat(path, X=np.zeros((32, 32, 3, 2), np.uint8), y=[[1], [2], [3]])
    with fails(ValueError, path, r"\(32, 32, 3, 2\)", r"instead of \(32, 32, 3, 3\)"):
        make(root, "svhn", "test")[0]


def test_cars_label_out_of_range(root):
    mat(root / "stanford_cars/devkit/cars_meta.mat", class_names=np.array(["a", "b"], object))
    words = "gives cars_train/.* the label 5, but has 2 classes"
    with fails(ValueError, root / "stanford_cars", words, "car_devkit.tgz"):
        make(root, "cars")


def test_birds_label_out_of_range(root):
    path = root / "CUB_200_2011/image_class_labels.txt"
    path.write_text(path.read_text().replace(" 4\n", " 201\n"))
    with fails(ValueError, path, "label 201, which classes.txt has not"):
        make(root, "birds")


@pytest.mark.parametrize("name", ["image_class_labels.txt", "train_test_split.txt", "images.txt"])
def test_birds_two_lines_for_one_image(root, name):
    path = root / "CUB_200_2011" / name
    line = next(line for line in path.read_text().splitlines() if line.startswith("9 "))
    path.write_text(path.read_text() + line[:2] + "1\n")
    with fails(ValueError, path, "has two lines for 9"):
        make(root, "birds")


@pytest.mark.parametrize("key", ["scenes", "birds", "aircraft", "actions"])
def test_lists_with_a_byte_order_mark(root, key):
    """As some editors put in front."""
    expected = make(root, key)
    for path in (root / DATASETS[key].folder).rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = make(root, key)
    assert (found.classes, found.images, found.targets) == (
        expected.classes,
        expected.images,
        expected.targets,
    )


def test_letters_hidden_files_are_no_images(root):
    """macOS leaves a ``._`` file beside each; they exchanged letters between train and test."""
    expected = [make(root, "letters", split).images for split in ("train", "test")]
    for path in list((root / "chars74k/English/Img").glob("*/Bmp/*/*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"metadata")
    assert [make(root, "letters", split).images for split in ("train", "test")] == expected


def test_sixteen_bits_of_grey_are_not_white(root):
    path = first_image(root, "flowers")
    greys = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(greys * 257).save(path, format="png")
    seen = np.asarray(make(root, "flowers")[0][0])
    np.testing.assert_array_equal(seen[..., 0], greys)


def test_birds_table_is_short(root):
    path = root / "CUB_200_2011/train_test_split.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with fails(ValueError, path, "says nothing of image 9"):
        make(root, "birds")


def test_aircraft_unknown_variant(root):
    path = root / "fgvc-aircraft-2013b/data/images_variant_test.txt"
    path.write_text("1000007 Wing 77\n")
    with fails(ValueError, path, "has no variant 'Wing 77'"):
        make(root, "aircraft", "test")


def test_scenes_unknown_class(root):
    path = root / "scenes-67/TestImages.txt"
    path.write_text("cellar/a.jpg\n")
    with fails(ValueError, path, "class 'cellar', which TrainImages.txt has not"):
        make(root, "scenes", "test")


@pytest.mark.parametrize(
    ("key", "name", "line"),
    [
        ("birds", "classes.txt", "5 005.Empty"),
        ("aircraft", "data/variants.txt", "Empty"),
    ],
)
def test_empty_class(root, key, name, line):
    path = root / DATASETS[key].folder / name
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(
        ValueError, match=rf"{key and DATASETS[key].folder} has no training image of"
    ):
        make(root, key)


def test_letters_too_few(root):
    """One image of each letter: none is left for a test set."""
    for path in (root / "chars74k/English/Img").glob("*/Bmp/*/*.png"):
        if path.parts[-4] == "BadImag" or not path.name.endswith("-00001.png"):
            path.unlink()
    for folder in (root / "chars74k/English/Img").glob("BadImag/Bmp/*"):
        folder.rmdir()
    shutil.rmtree(root / "chars74k/English/Img/GoodImg/Bmp/Sample036")
    with fails(ValueError, root / "chars74k", "has too few letters for a test set"):
        make(root, "letters")


def test_letters_only_digits(root):
    for folder in (root / "chars74k/English/Img").glob("*/Bmp/*"):
        if int(folder.name[-3:]) > 10:
            shutil.rmtree(folder)
    with fails(ValueError, root / "chars74k", "has no train samples"):
        make(root, "letters")


def test_letters_empty_class(root):
    for quality in ("GoodImg", "BadImag"):
        folder = root / f"chars74k/English/Img/{quality}/Bmp/Sample011"
        shutil.rmtree(folder)
        folder.mkdir()
    with fails(ValueError, folder, "holds no .png images"):
        make(root, "letters")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<annotation>", "", "is not valid XML"),
        ("<name>person", "<name>horse", "object 1 is a horse"),
        ("<xmin>", "<xmin>left", "has no box for object 1"),
        ("<xmax>5.0", "<xmax>1.0", "has an empty box for object 1"),
    ],
)
def test_actions_bad_annotation(root, old, new, words):
    path = root / "VOCdevkit/VOC2012/Annotations/2012_000001.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with fails(ValueError, path, words, "replace it"):
        make(root, "actions")


def test_actions_object_that_is_not_there(root):
    path = root / "VOCdevkit/VOC2012/ImageSets/Action/reading_train.txt"
    path.write_text(path.read_text() + "2012_000001 9 1\n")
    annotation = root / "VOCdevkit/VOC2012/Annotations/2012_000001.xml"
    with fails(ValueError, annotation, "has 2 objects, but the lists of actions name object 9"):
        make(root, "actions")


def test_actions_box_outside_the_image(root):
    path = root / "VOCdevkit/VOC2012/Annotations/2012_000001.xml"
    text = path.read_text().replace("<xmax>5.0", "<xmax>999").replace("<xmin>2.0", "<xmin>990")
    path.write_text(text)
    dataset = make(root, "actions")
    at = dataset.boxes.index((989, 2, 999, 7))
    with fails(ValueError, dataset.official.path / dataset.images[at], "11 × 9 pixels"):
        dataset[at]
