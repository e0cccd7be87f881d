"""What all eight loaders have in common, on a few images of each in the official layouts."""

import pickle

import pytest
from official_layout import LETTERS, SIZE, all_eight, label_of
from PIL import Image

from avalanche_mas.benchmarks.datasets import DATASETS

# Classes, training and test samples of `all_eight`.
EXPECTED = {
    "flowers": (3, 6, 4),
    "scenes": (2, 4, 2),
    "birds": (4, 5, 4),
    "cars": (5, 6, 3),
    "aircraft": (6, 6, 2),
    "actions": (11, 11, 9),
    "letters": (6, 27, 5),
    "svhn": (10, 10, 3),
}

# What the colour of an image tells, for the position of its class.
SHOWN = {
    "flowers": [4, 76, 99],
    "letters": [LETTERS.index(letter) + 1 for letter in "AMZagz"],
    "svhn": [10, *range(1, 10)],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return all_eight(tmp_path_factory.mktemp("root"))


def load(root, key, split, **options):
    return DATASETS[key](root, split, **options)


def test_order_of_the_datasets():
    assert list(DATASETS) == list(EXPECTED)
    assert all(info.key == key for key, info in DATASETS.items())


@pytest.mark.parametrize("key", DATASETS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_image_shows_its_target(root, key, split):
    dataset = load(root, key, split)
    n_classes, *sizes = EXPECTED[key]
    assert len(dataset.classes) == n_classes
    assert len(dataset) == len(dataset.targets) == sizes[split == "test"]
    shown = SHOWN.get(key, range(n_classes))
    for (image, target), known in zip(dataset, dataset.targets, strict=True):
        assert isinstance(image, Image.Image)
        assert image.mode == "RGB"
        assert type(target) is type(known) is int
        assert target == known
        assert label_of(image) == shown[target]


@pytest.mark.parametrize("key", DATASETS)
def test_the_splits_share_classes_and_no_image(root, key):
    train, test = (load(root, key, split) for split in ("train", "test"))
    assert train.classes == test.classes
    assert all(type(name) is str for name in train.classes)
    assert len(set(train.classes)) == len(train.classes)
    assert not set(train.images) & set(test.images)
    assert set(train.targets) == set(range(len(train.classes)))


@pytest.mark.parametrize("key", DATASETS)
def test_transform(root, key):
    image, target = load(root, key, "train", transform=lambda image: image.size)[0]
    plain, same = load(root, key, "train")[0]
    assert (image, target) == (plain.size, same)


@pytest.mark.parametrize("key", ["flowers", "scenes", "birds", "cars", "aircraft", "letters"])
def test_images_are_whole(root, key):
    """The birds too, of which Avalanche's loader cuts out the box."""
    assert load(root, key, "train")[0][0].size == SIZE


@pytest.mark.parametrize("key", DATASETS)
def test_pickle(root, key):
    """Also after an image was read: SVHN's pixels are not taken along."""
    dataset = load(root, key, "train")
    before = len(pickle.dumps(dataset))
    image, target = dataset[0]
    stored = pickle.dumps(dataset)
    assert len(stored) == before
    again, same = pickle.loads(stored)[0]
    assert target == same
    assert image.tobytes() == again.tobytes()


@pytest.mark.parametrize("key", DATASETS)
def test_unknown_split(root, key):
    with pytest.raises(ValueError, match="split is 'val': give one of train, test"):
        load(root, key, "val")


@pytest.mark.parametrize("key", DATASETS)
def test_a_relative_root_and_a_string(root, key, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert load(root.name, key, "test").targets == load(root, key, "test").targets


@pytest.mark.parametrize("info", DATASETS.values(), ids=DATASETS)
def test_info(root, info):
    """Files lead to what the loader looks for, and unpacking nothing else."""
    assert info.__module__ == f"avalanche_mas.benchmarks.datasets.{info.key}"
    assert (root / info.folder).is_dir()
    assert set(info.sizes) == {"train", "test"}
    for file in info.files:
        assert file.name in file.url or "drive.google.com" in file.url
        assert (root / file.gives).exists()
        assert file.folder == "." or file.gives.startswith(f"{file.folder}/")
        assert file.is_archive or file.gives == f"{file.folder}/{file.name}"
        assert file.md5 is None or len(file.md5) == 32
        assert file.sha256 is None or len(file.sha256) == 64
        assert file.alive or file.mirror
        line = file.where_to_get("ROOT")
        assert file.name in line
        assert file.url in line
        assert line.endswith("ROOT" if file.folder == "." else f"ROOT/{file.folder}")
