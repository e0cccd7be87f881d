"""Lists and labels as long as the official ones give the official numbers of samples."""

import string
from itertools import cycle, islice

import official_layout as layout
import pytest

from avalanche_mas.benchmarks.datasets import DATASETS

# PASCAL VOC2012's development kit, Table 3: images, people, and people who do two things at once
# (the sum over the actions less the number of people).
VOC = {"train": (2296, 3134, 3166 - 3134), "val": (2292, 3144, 3180 - 3144)}

# Training, test, classes.
OFFICIAL = {
    "flowers": (2040, 6149, 102),
    "scenes": (5360, 1340, 67),
    "birds": (5994, 5794, 200),
    "cars": (8144, 8041, 196),
    "aircraft": (6667, 3333, 100),
    "actions": (3102, 3108, 11),
    "letters": (6850, 1150, 52),
    "svhn": (73257, 26032, 10),
}


def labels(n_classes, count, start=1):
    return list(islice(cycle(range(start, start + n_classes)), count))


def people(split):
    n_images, n_people, n_double = VOC[split]
    does = cycle([(action,) for action in layout.TEN] + [()])
    found = [("running", "jumping")] * n_double + list(islice(does, n_people - n_double))
    extra = n_people - n_images  # so many images show a second person
    return [found[at : at + 1] + found[n_images + at :][: at < extra] for at in range(n_images)]


def letter_counts(total):
    return {
        letter: total // 52 + (at < total % 52) for at, letter in enumerate(string.ascii_letters)
    }


WRITE = {
    "flowers": lambda root: layout.flowers(
        root, labels(102, 1020), labels(102, 1020), labels(102, 6149)
    ),
    "scenes": lambda root: layout.scenes(
        root, *([f"room{at:02d}" for at in labels(67, count)] for count in (5360, 1340))
    ),
    "birds": lambda root: layout.birds(root, labels(200, 5994), labels(200, 5794)),
    "cars": lambda root: layout.cars(root, labels(196, 8144), labels(196, 8041)),
    "aircraft": lambda root: layout.aircraft(
        root, *(labels(100, count, start=0) for count in (3334, 3333, 3333))
    ),
    "actions": lambda root: layout.actions(root, train=people("train"), val=people("val")),
    "letters": lambda root: layout.letters(
        root,
        good=letter_counts(7112) | dict.fromkeys("0123456789", 2),
        bad=letter_counts(4506) | dict.fromkeys("0123456789", 2),
    ),
    "svhn": lambda root: layout.svhn(root, labels(10, 73257), labels(10, 26032)),
}


@pytest.mark.parametrize("key", DATASETS)
def test_full_size(tmp_path, key):
    WRITE[key](tmp_path)
    info = DATASETS[key]
    train, test = (info(tmp_path, split) for split in ("train", "test"))
    assert (len(train), len(test), len(train.classes)) == OFFICIAL[key]
    assert (*info.sizes.values(), info.n_classes) == OFFICIAL[key]
