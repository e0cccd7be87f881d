"""One dataset, divided by its classes into tasks with a head each."""

import pytest
import torch
from avalanche.models import MultiHeadClassifier
from torch.utils.data import DataLoader, Subset, TensorDataset

from avalanche_mas.benchmarks import split_by_class, task_sequence


def numbers(labels):
    """Samples (x, y), where x is the number of the sample."""
    labels = torch.as_tensor(labels)
    return TensorDataset(torch.arange(len(labels)).float()[:, None], labels)


TRAIN, TEST = numbers([5, 0, 3, 1, 0, 5, 4, 2]), numbers([0, 1, 2, 3, 4, 5])


def test_each_task_counts_from_zero():
    parts = split_by_class(TRAIN, 3)
    assert [part.classes for part in parts] == [[0, 1], [2, 3], [4, 5]]
    samples = [[(int(x), int(y)) for x, y in part] for part in parts]
    assert samples == [[(1, 0), (3, 1), (4, 0)], [(2, 1), (7, 0)], [(0, 1), (5, 1), (6, 0)]]
    x, y = next(iter(DataLoader(parts[2], 3)))
    assert (x.flatten().tolist(), y.tolist()) == ([0, 5, 6], [1, 1, 0])


def test_heads_are_as_large_as_their_tasks():
    """Not of 2, 4 and 6 units."""
    pairs = zip(split_by_class(TRAIN, 3), split_by_class(TEST, 3), strict=True)
    benchmark = task_sequence(list(pairs))
    heads = MultiHeadClassifier(1)
    for experience in benchmark.train_stream:
        heads.adaptation(experience)
        assert {y for _, y, _ in experience.dataset} == {0, 1}
    sizes = [head.classifier.out_features for head in heads.classifiers.values()]
    assert sizes == [2, 2, 2]
    assert [int(y) for _, y, _ in benchmark.test_stream[2].dataset] == [0, 1]


def test_in_another_order():
    parts = split_by_class(Subset(TRAIN, range(1, 6)), 2, classes=[5, 1])
    assert [(part.classes, part.targets) for part in parts] == [([5], [0]), ([1], [0])]


def test_datasets_that_were_divided_otherwise_do_not_match():
    """A test set without some of the classes."""
    pairs = zip(split_by_class(TRAIN, 3), split_by_class(numbers([0, 2, 4]), 3), strict=True)
    with pytest.raises(ValueError, match=r"do not have the same classes.*\[0, 1\] and \[0\]"):
        task_sequence(list(pairs))


@pytest.mark.parametrize(
    ("dataset", "n", "options", "error", "words"),
    [
        (TRAIN, 4, {}, ValueError, "6 classes cannot be divided into 4"),
        (TRAIN, 0, {}, ValueError, "into 0"),
        (TRAIN, 2, {"classes": [1, 1]}, ValueError, r"cannot be divided.*\[1, 1\]"),
        (TRAIN, 2, {"classes": [1, 7]}, ValueError, r"no samples of the classes \[7\]"),
        (TensorDataset(torch.zeros(4, 1)), 2, {}, TypeError, "no integer labels"),
        (TensorDataset(torch.zeros(4, 1), torch.rand(4)), 2, {}, TypeError, "no integer labels"),
    ],
)
def test_what_cannot_be_divided(dataset, n, options, error, words):
    with pytest.raises(error, match=words):
        split_by_class(dataset, n, **options)


def test_subsets_with_their_old_labels_are_refused():
    later = Subset(TRAIN, [2, 7])
    with pytest.raises(ValueError, match=r"'task 1' begin at 2.*split_by_class does so"):
        task_sequence([(numbers([0, 1]), numbers([0, 1])), (later, later)])
