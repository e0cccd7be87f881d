"""The miniature in its official layouts, read by loaders and libraries that know the real files."""

import tarfile
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat
from torchvision.datasets import FGVCAircraft, Flowers102, StanfordCars

from avalanche_mas.benchmarks.datasets import DATASETS
from avalanche_mas.benchmarks.datasets.actions import CLASSES as ACTIONS

CLASSES = {
    "flowers": 10,
    "scenes": 6,
    "birds": 8,
    "cars": 7,
    "aircraft": 9,
    "actions": 11,
    "letters": 12,
    "svhn": 10,
}


@pytest.mark.parametrize("key", DATASETS)
def test_loaders_read_it(default, key):
    """Each split has all classes, as many of each, and images that can be opened."""
    total = Counter()
    for split in ("train", "test"):
        data = DATASETS[key](default.root, split)
        counts = Counter(data.targets)
        total += counts
        assert len(data.classes) == len(counts) == CLASSES[key]
        if key != "letters":  # whose loader, not the files, says which are for tests
            assert set(counts.values()) == {{"train": 40, "test": 20}[split]}
        for at in (0, len(data) // 2, len(data) - 1):
            image, target = data[at]
            assert image.mode == "RGB"
            assert target == data.targets[at]
    assert set(total.values()) == {60}


def test_torchvision_reads_aircraft(default):
    ours = DATASETS["aircraft"](default.root, "train")
    theirs = FGVCAircraft(default.root, split="trainval", annotation_level="variant")
    assert theirs.classes == ours.classes
    assert theirs._labels == ours.targets
    halves = [FGVCAircraft(default.root, split=split) for split in ("train", "val")]
    assert [len(half) for half in halves] == [180, 180]
    for level in ("family", "manufacturer"):
        assert len(FGVCAircraft(default.root, split="test", annotation_level=level)) == 180


@pytest.mark.parametrize("split", ["train", "test"])
def test_torchvision_reads_cars(default, split):
    ours = DATASETS["cars"](default.root, split)
    theirs = StanfordCars(default.root, split=split)
    assert theirs.classes == ours.classes
    assert [target for _, target in theirs._samples] == ours.targets


def test_flowers_have_official_labels(default):
    """MATLAB's shapes; the drawn labels are of the flowers that are called so."""
    folder = default.root / "flowers-102"
    labels = loadmat(folder / "imagelabels.mat")["labels"]
    assert labels.shape == (1, 600)
    sets = loadmat(folder / "setid.mat")
    parts = [sets[name] for name in ("trnid", "valid", "tstid")]
    assert [part.shape for part in parts] == [(1, 200), (1, 200), (1, 200)]
    assert sorted(np.concatenate(parts, axis=1)[0]) == list(range(1, 601))
    names = {Flowers102.classes[label - 1] for label in np.unique(labels)}
    assert {"passion flower", "sunflower", "rose", "bird of paradise"} < names
    assert len(list((folder / "jpg").glob("image_?????.jpg"))) == 600


def test_matlab_files_of_cars(default):
    """A 1 × n struct array whose fields are 1 × 1 arrays and strings."""
    folder = default.root / "stanford_cars"
    train = loadmat(folder / "devkit/cars_train_annos.mat")["annotations"]
    assert train.shape == (1, 280)
    boxes = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    assert train.dtype.names == (*boxes, "class", "fname")
    assert train[0, 0]["class"].shape == (1, 1)
    assert train[0, 0]["fname"].tolist() == ["00001.jpg"]
    hidden = loadmat(folder / "devkit/cars_test_annos.mat")["annotations"]
    assert hidden.dtype.names == (*boxes, "fname")
    assert loadmat(folder / "devkit/cars_meta.mat")["class_names"].shape == (1, 7)
    squeezed = loadmat(folder / "devkit/cars_train_annos.mat", squeeze_me=True)["annotations"]
    for row in squeezed[:20]:
        with Image.open(folder / "cars_train" / row["fname"]) as image:
            assert 1 <= row["bbox_x1"] < row["bbox_x2"] <= image.width
            assert 1 <= row["bbox_y1"] < row["bbox_y2"] <= image.height


def test_matlab_files_of_house_numbers(default):
    content = loadmat(default.root / "svhn/train_32x32.mat")
    assert content["X"].shape == (32, 32, 3, 400)
    assert content["X"].dtype == np.uint8
    assert content["y"].shape == (400, 1)
    assert set(content["y"].ravel()) == set(range(1, 11))


def test_birds_have_boxes(default):
    folder = default.root / "CUB_200_2011"
    files = dict(line.split() for line in (folder / "images.txt").read_text().splitlines())
    for line in (folder / "bounding_boxes.txt").read_text().splitlines():
        number, x, y, width, height = line.split()
        with Image.open(folder / "images" / files[number]) as image:
            assert 0 <= float(x) < float(x) + float(width) <= image.width
            assert 0 <= float(y) < float(y) + float(height) <= image.height


def test_scenes_hold_what_no_list_names(default):
    folder = default.root / "scenes-67"
    lists = [(folder / f"{part}Images.txt").read_text().splitlines() for part in ("Train", "Test")]
    listed = set(lists[0]) | set(lists[1])
    there = {str(path.relative_to(folder / "Images")) for path in folder.rglob("*.jpg")}
    assert len(listed) == len(lists[0]) + len(lists[1])
    assert listed < there
    assert any(" " in name for name in listed)


def test_actions_agree_in_all_files(default):
    """Lists, annotations and images: the same people, whose boxes lie within their image."""
    folder = default.root / "VOCdevkit/VOC2012"
    sets = folder / "ImageSets/Action"
    names = {split: (sets / f"{split}.txt").read_text().split() for split in ("train", "val")}
    assert (sets / "trainval.txt").read_text().split() == names["train"] + names["val"]
    several = 0
    for split, images in names.items():
        lists = {}
        for action in ACTIONS:
            lines = (sets / f"{action}_{split}.txt").read_text().splitlines()
            rows = [line.split() for line in lines]
            lists[action] = {(name, int(at)): int(does) for name, at, does in rows}
        for name in images:
            tree = ElementTree.parse(folder / "Annotations" / f"{name}.xml")
            with Image.open(folder / "JPEGImages" / tree.findtext("filename")) as image:
                size = [int(tree.findtext(f"size/{side}")) for side in ("width", "height")]
                assert list(image.size) == size
            people = tree.findall("object")
            several += len(people) > 1
            for at, person in enumerate(people, start=1):
                marks = {action: person.findtext(f"actions/{action}") for action in ACTIONS}
                does = {action: lists[action][name, at] == 1 for action in ACTIONS}
                assert {action: mark == "1" for action, mark in marks.items()} == does
                assert sum(does.values()) in (1, 2)
                box = {side: int(person.findtext(f"bndbox/{side}")) for side in _SIDES}
                assert 1 <= box["xmin"] < box["xmax"] <= size[0]
                assert 1 <= box["ymin"] < box["ymax"] <= size[1]
    assert several > 50


_SIDES = ("xmin", "ymin", "xmax", "ymax")


def test_people_who_do_two_things_are_dropped(default):
    """There are such people in both lists, and the loader shows none of them."""
    sets = default.root / "VOCdevkit/VOC2012/ImageSets/Action"
    for split, part in (("train", "train"), ("test", "val")):
        files = [(sets / f"{action}_{part}.txt").read_text().splitlines() for action in ACTIONS]
        positives = sum(line.endswith(" 1") for lines in files for line in lines)
        people = len(files[0])
        assert positives - people > 5
        loaded = len(DATASETS["actions"](default.root, split))
        assert loaded == people - (positives - people)


def test_letters_have_masks_and_digits(default):
    folder = default.root / "chars74k/English/Img"
    for kind in ("GoodImg", "BadImag"):
        pictures = sorted((folder / kind / "Bmp").rglob("*.png"))
        masks = sorted((folder / kind / "Msk").rglob("*.png"))
        assert [path.name for path in pictures] == [path.name for path in masks]
        with Image.open(masks[0]) as mask, Image.open(pictures[0]) as picture:
            assert mask.size == picture.size
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert (folder / kind / "Bmp/Sample001").is_dir()  # the digit 0


def test_archives_hold_the_same(default, tmp_path):
    """Every official file is there; archives hold what was written, and have no dates."""
    for info in DATASETS.values():
        for file in info.files:
            packed = default.root / "archives" / file.name
            written = default.root / file.gives
            if not file.is_archive:
                assert packed.read_bytes() == written.read_bytes()
                continue
            with tarfile.open(packed) as tar:
                assert {member.mtime for member in tar} == {0}
                files = [member for member in tar if member.isfile()]
                some = files[len(files) // 2]
                original = default.root / file.folder / some.name
                assert tar.extractfile(some).read() == original.read_bytes()
            assert len(files) == sum(path.is_file() for path in written.rglob("*"))
