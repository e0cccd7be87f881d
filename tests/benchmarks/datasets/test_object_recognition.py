"""The paper's sequences, and the preprocessing of its authors."""

import pytest
import torch
from official_layout import all_eight
from PIL import Image

from avalanche_mas.benchmarks.datasets import DATASETS
from avalanche_mas.benchmarks.object_benchmark import (
    EIGHT_TASKS,
    TWO_TASK_SEQUENCES,
    Preprocessing,
    object_recognition,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return all_eight(tmp_path_factory.mktemp("root"))


def test_names():
    assert tuple(DATASETS) == EIGHT_TASKS
    assert len(TWO_TASK_SEQUENCES) == 4
    for name, tasks in TWO_TASK_SEQUENCES.items():
        assert name == "-".join(tasks)
        assert set(tasks) < set(EIGHT_TASKS)


def test_eight_tasks(root):
    benchmark = object_recognition(root)
    assert benchmark.task_names == list(EIGHT_TASKS)
    for stream in benchmark.streams.values():
        counts = [len(experience.classes_in_this_experience) for experience in stream]
        assert counts == [3, 2, 4, 5, 6, 11, 6, 10]
        for task, experience in enumerate(stream):
            x, y, label = experience.dataset[0]
            assert (x.shape, x.dtype, label) == ((3, 224, 224), torch.float32, task)
            assert y == experience.dataset.targets[0]


@pytest.mark.parametrize("tasks", TWO_TASK_SEQUENCES.values(), ids=TWO_TASK_SEQUENCES)
def test_two_tasks(root, tasks):
    benchmark = object_recognition(root, tasks, validation=0.2)
    assert benchmark.task_names == list(tasks)
    assert set(benchmark.streams) == {"train", "test", "valid"}


def test_own_transform(root):
    """A function from the dataset's name to its two transforms."""

    def transform(name):
        return (lambda image: f"train {name}"), (lambda image: f"eval {name}")

    benchmark = object_recognition(root, ["letters", "cars"], transform=transform)
    train, test = benchmark.train_stream[1].dataset, benchmark.test_stream[0].dataset
    assert (train[0][0], train.eval()[0][0], test[0][0]) == (
        "train cars",
        "eval cars",
        "eval letters",
    )


def stripes(width, height):
    """Another grey in every column."""
    row = bytes(at * 255 // (width - 1) for at in range(width))
    return Image.frombytes("L", (width, height), row * height).convert("RGB")


def test_evaluation_cuts_the_middle_and_normalises():
    """The shorter side becomes 256 pixels, so this image keeps its size."""
    _, evaluate = Preprocessing()("flowers")
    x = evaluate(stripes(300, 256))
    first, last = 38 * 255 // 299 / 255, 261 * 255 // 299 / 255  # columns 38 to 261 are the middle
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        edges = torch.tensor([(first - mean) / std, (last - mean) / std])
        torch.testing.assert_close(x[channel, 100, [0, -1]], edges)
    assert torch.equal(x, evaluate(stripes(300, 256)))


@pytest.mark.parametrize(("width", "height"), [(600, 300), (300, 600), (32, 32), (20, 90)])
def test_the_shorter_side_is_scaled(width, height):
    for transform in Preprocessing()("svhn"):
        assert transform(stripes(width, height)).shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("flip", "flipped"),
    [(True, set(DATASETS)), (False, set()), ((), set()), (["birds", "cars"], {"birds", "cars"})],
    ids=["all", "none", "empty", "some"],
)
def test_flips(flip, flipped):
    """The authors mirror everything, letters and digits too; it can be turned off for some."""
    image = stripes(256, 256)
    for name in DATASETS:
        train, evaluate = Preprocessing(flip=flip)(name)
        rising = [bool(x[0, 0, 0] < x[0, 0, -1]) for x in (train(image) for _ in range(24))]
        assert set(rising) == ({True, False} if name in flipped else {True})
        assert bool(evaluate(image)[0, 0, 0] < evaluate(image)[0, 0, -1])


def test_training_crops_anywhere():
    train, _ = Preprocessing(flip=False)("cars")
    starts = {round(float(train(stripes(256, 256))[0, 0, 0]), 4) for _ in range(12)}
    assert len(starts) > 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 300}, "crop is 300: give 1 to 256"),
        ({"crop": 0}, "crop is 0: give 1 to 256"),
        ({"flip": "letters"}, "flip is 'letters': give a list of flowers, scenes, birds"),
        ({"flip": ["digits"]}, "flip is .*give a list of flowers, scenes, birds"),
    ],
)
def test_bad_preprocessing(options, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**options)


@pytest.mark.parametrize("tasks", [["dogs"], [], "birds"])
def test_bad_tasks(root, tasks):
    with pytest.raises(ValueError, match=r"tasks is .*give a list of flowers, scenes, birds"):
        object_recognition(root, tasks)


def test_missing_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="CUB_200_2011 does not exist"):
        object_recognition(tmp_path, ["birds", "scenes"])
