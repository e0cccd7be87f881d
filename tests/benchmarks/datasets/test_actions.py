"""One sample for each person, cut out of the photograph; people who do two things are left out."""

import numpy as np
import official_layout as layout
import pytest
from official_layout import colour, label_of

from avalanche_mas.benchmarks.datasets import Actions

ONE_OF_EACH = [[(action,)] for action in layout.TEN] + [[()]]


def names(dataset):
    return [dataset.classes[target] for target in dataset.targets]


def test_classes_are_in_the_official_order(tmp_path):
    layout.actions(tmp_path, train=ONE_OF_EACH, val=ONE_OF_EACH)
    assert Actions(tmp_path).classes == ["other", *layout.TEN]


def test_val_is_the_test_set(tmp_path):
    layout.actions(tmp_path, train=ONE_OF_EACH, val=[[("reading",)], [()]])
    assert names(Actions(tmp_path, "train")) == [*layout.TEN, "other"]
    assert names(Actions(tmp_path, "test")) == ["reading", "other"]


def test_several_actions_are_dropped(tmp_path):
    val = [[("walking", "phoning"), ("walking",)], [("reading", "phoning")], [()]]
    layout.actions(tmp_path, train=ONE_OF_EACH, val=val)
    test = Actions(tmp_path, "test")
    assert names(test) == ["walking", "other"]
    assert [label_of(image) for image, _ in test] == [10, 0]


def test_objects_are_counted_in_the_annotation(tmp_path):
    """Not only people are objects: the lists' numbers count horses too."""
    val = [["horse", ("ridinghorse",), "dog", ("running",)]]
    layout.actions(tmp_path, train=ONE_OF_EACH, val=val)
    test = Actions(tmp_path, "test")
    assert sorted(names(test)) == ["ridinghorse", "running"]
    for image, target in test:
        assert label_of(image) == target


def test_the_box_counts_from_one_and_has_both_ends(tmp_path):
    layout.actions(tmp_path, train=ONE_OF_EACH, val=[[("reading",), ("phoning",)]])
    test = Actions(tmp_path, "test", padding=0.0)
    assert [tuple(box) for box in test.boxes] == [(1, 2, 5, 7), (6, 2, 10, 7)]
    for image, target in test:
        assert image.size == (4, 5)
        for corner in ((0, 0), (3, 0), (0, 4), (3, 4)):
            assert np.allclose(image.getpixel(corner), colour(target), atol=12)


@pytest.mark.parametrize(
    ("padding", "size"),
    [
        (0.0, (4, 5)),
        (0.25, (1 + 4 + 1, 1 + 5 + 1)),  # a quarter of 4 and of 5 pixels on each side
        (0.5, (1 + 4 + 2, 2 + 5 + 2)),  # on the left the image has but one pixel more
        (100.0, (11, 9)),  # the whole image, and nothing beyond it
    ],
)
def test_padding(tmp_path, padding, size):
    layout.actions(tmp_path, train=ONE_OF_EACH, val=[[("reading",), ("phoning",)]])
    image = next(
        image
        for image, target in Actions(tmp_path, "test", padding=padding)
        if target == layout.TEN.index("reading") + 1
    )
    assert image.size == size


def test_a_quarter_is_the_default(tmp_path):
    layout.actions(tmp_path, train=ONE_OF_EACH, val=ONE_OF_EACH)
    assert Actions(tmp_path).padding == 0.25
    assert Actions(tmp_path)[0][0].size != Actions(tmp_path, padding=0.0)[0][0].size


@pytest.mark.parametrize("padding", [-0.1, float("nan")])
def test_padding_out_of_range(tmp_path, padding):
    with pytest.raises(ValueError, match="padding is"):
        Actions(tmp_path, padding=padding)
