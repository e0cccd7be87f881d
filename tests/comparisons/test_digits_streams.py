import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from avalanche_mas.benchmarks import permuted_digits, split_digits


def samples(experience):
    """All (images, labels, task labels) of an experience, as tensors."""
    x, y, t = zip(*experience.dataset, strict=True)
    return torch.stack(x), torch.tensor(y), torch.tensor(t)


def images(stream):
    return torch.cat([samples(experience)[0] for experience in stream])


def as_set(x):
    return {image.numpy().tobytes() for image in x}


@pytest.mark.parametrize("make", [permuted_digits, split_digits])
def test_every_image_is_in_one_stream_and_no_other(make):
    n = 1 if make is permuted_digits else 5  # permuted digits show each image once per experience
    benchmark = make(n, validation=0.2)
    assert set(benchmark.streams) == {"train", "test", "valid"}
    parts = {name: images(stream) for name, stream in benchmark.streams.items()}
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 1037,
        "valid": 260,
        "test": 500,
    }
    for a, b in itertools.combinations(parts.values(), 2):
        assert not as_set(a) & as_set(b)
    original = torch.tensor(load_digits().data / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    assert as_set(torch.cat(list(parts.values()))) == as_set(original)


@pytest.mark.parametrize("make", [permuted_digits, split_digits])
def test_without_validation_there_is_no_such_stream(make):
    benchmark = make()
    assert set(benchmark.streams) == {"train", "test"}
    assert sum(len(e.dataset) for e in make(5).train_stream) == (
        1297 * (5 if make is permuted_digits else 1)
    )


@pytest.mark.parametrize("make", [permuted_digits, split_digits])
def test_parts_are_stratified(make):
    y = torch.cat([samples(e)[1] for e in permuted_digits(1, validation=0.2).valid_stream])
    assert torch.bincount(y, minlength=10).min() >= 22  # of 260 in 10 classes
    y = torch.cat([samples(e)[1] for e in permuted_digits(1).test_stream])
    assert torch.bincount(y, minlength=10).min() >= 45  # of 500
    sizes = [len(e.dataset) for e in make(5).test_stream]
    assert max(sizes) - min(sizes) <= 6


def test_permuted_first_experience_is_natural_and_orders_are_shared_by_streams():
    plain, permuted = permuted_digits(1), permuted_digits(3, seed=4)
    orders = []
    for i in range(3):
        found = []
        for name in ("train", "test"):
            before = samples(plain.streams[name][0])[0].flatten(1)
            after, y, t = samples(permuted.streams[name][i])
            assert torch.equal(y, samples(plain.streams[name][0])[1])
            assert set(t.tolist()) == {0}
            found.append((before, after.flatten(1)))
        before, after = (torch.cat(part) for part in zip(*found, strict=True))
        # Each new pixel must be the same old pixel in every image of both streams.
        same = (after.T[:, None] == before.T[None]).all(dim=2)  # (new pixel, old pixel)
        assert same.any(dim=1).all()
        orders.append(same)
    assert orders[0].diagonal().all()
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


def test_split_labels_count_from_zero_and_classes_are_dealt_out():
    x, y = load_digits(return_X_y=True)
    digit_of = {
        torch.tensor(image / 16, dtype=torch.float32).numpy().tobytes(): int(digit)
        for image, digit in zip(x, y, strict=True)
    }
    benchmark = split_digits(5, seed=3)
    seen = []
    for train, test in zip(benchmark.train_stream, benchmark.test_stream, strict=True):
        meanings = []
        for experience in (train, test):
            images_, labels, tasks = samples(experience)
            digits = [digit_of[image.numpy().tobytes()] for image in images_]
            meanings.append(dict(zip(labels.tolist(), digits, strict=True)))
            pairs = set(zip(labels.tolist(), digits, strict=True))
            assert len(pairs) == 2  # one digit for each label
            assert experience.classes_in_this_experience == [0, 1]
            assert experience.task_label == experience.current_experience
            assert set(tasks.tolist()) == {experience.current_experience}
        assert meanings[0] == meanings[1]
        seen += meanings[0].values()
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize("make", [permuted_digits, split_digits])
def test_seeds(make):
    first, again, other = make(2, seed=1), make(2, seed=1), make(2, seed=2)
    assert torch.equal(images(first.train_stream), images(again.train_stream))
    assert not torch.equal(images(first.train_stream), images(other.train_stream))
    held_out = [images(permuted_digits(1, seed=s).test_stream) for s in (1, 2)]
    assert torch.equal(*held_out)  # the seed never changes what is held out


@pytest.mark.parametrize("make", [permuted_digits, split_digits])
def test_an_experience_leads_to_the_other_streams(make):
    benchmark = make(2, validation=0.5)
    for stream in benchmark.streams.values():
        for experience in stream:
            assert experience.origin_stream.benchmark is benchmark
            peer = experience.origin_stream.benchmark.streams["valid"]
            assert len(peer[experience.current_experience].dataset) > 0


def test_samples_look_as_documented():
    x, _, _ = samples(permuted_digits(1).train_stream[0])
    assert x.shape == (1297, 1, 8, 8)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert np.array_equal(np.unique(x), np.arange(17, dtype=np.float32) / 16)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (permuted_digits, {"n_experiences": 0}, "n_experiences is 0"),
        (split_digits, {"n_experiences": 3}, "divisor of 10"),
        (split_digits, {"n_experiences": -5}, "divisor of 10"),
        (permuted_digits, {"validation": 1.0}, r"validation is 1\.0"),
        (split_digits, {"validation": -0.1}, r"validation is -0\.1"),
    ],
)
def test_arguments_out_of_range_are_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
