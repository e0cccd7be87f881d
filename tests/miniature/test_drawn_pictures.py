"""The drawings: the same from the same seed, different from another, and worth learning."""

import time
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from avalanche_mas.benchmarks.datasets import DATASETS
from avalanche_mas.miniature.objects import miniature


def contents(root):
    """Every file under a folder, by name."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_the_default_is_quick_and_small(default):
    size = sum(len(content) for content in contents(default.root).values())
    assert size < 30e6
    assert default.seconds < 30


def test_same_seed_same_bytes(tmp_path):
    """MATLAB files, tar files and gzip files can hold dates: a second later they are the same."""
    options = {"images_per_class": 2, "size": 16, "archives": True, "verbose": False}
    first = contents(miniature(tmp_path / "first", **options))
    time.sleep(1.1)
    assert contents(miniature(tmp_path / "second", **options)) == first
    other = contents(miniature(tmp_path / "other", **options, seed=1))
    drawn = [name for name in first if name.endswith((".png", ".mat")) and "Bmp" in name]
    assert all(other[name] != first[name] for name in drawn)


def test_more_pictures_leave_the_first_as_they_are(tmp_path):
    few = contents(miniature(tmp_path / "few", images_per_class=2, size=16, verbose=False))
    many = contents(miniature(tmp_path / "many", images_per_class=4, size=16, verbose=False))
    first = "scenes-67/Images/library/library_0001.jpg"
    assert many[first] == few[first]


@pytest.mark.parametrize("key", DATASETS)
def test_size_is_asked_for(default, key):
    """Pictures are as high as asked for, or are cut out of such, and not all of one width."""
    images = [DATASETS[key](default.root, "train")[k][0] for k in range(0, 240, 12)]
    heights, widths = np.array([image.size[::-1] for image in images]).T
    if key == "svhn":
        assert set(heights) == set(widths) == {32}
    elif key in ("actions", "letters"):
        assert 16 < heights.min() < heights.max() <= 96
    else:
        assert set(heights) == {64}
        assert len(set(widths)) > 5


def features(image):
    """Coarse colours, and where there are edges: all that a linear model gets to see."""
    grey = np.asarray(image.convert("L").resize((20, 20)), dtype=float)
    edges = np.hypot(*np.gradient(grey))
    colours = np.asarray(image.resize((4, 4)), dtype=float)
    return np.concatenate([edges.ravel() / edges.std(), colours.ravel() / 64])


@pytest.mark.parametrize("key", DATASETS)
def test_classes_can_be_learnt(default, key):
    """Even a linear model is right several times as often as by chance, on test pictures."""
    x, y = {}, {}
    for split in ("train", "test"):
        data = DATASETS[key](default.root, split)
        x[split], y[split] = np.stack([features(image) for image, _ in data]), data.targets
    linear = LogisticRegression(C=0.01, max_iter=1000).fit(x["train"], y["train"])
    assert linear.score(x["test"], y["test"]) > 3 / len(data.classes)


def test_no_picture_is_drawn_twice(default):
    """Test pictures are not training pictures, and no two pictures are the same."""
    for key, info in DATASETS.items():
        seen = [
            image.tobytes() for split in ("train", "test") for image, _ in info(default.root, split)
        ]
        assert all(one != two for one, two in pairwise(sorted(seen))), key
