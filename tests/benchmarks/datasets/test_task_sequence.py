"""Any datasets become the tasks of one benchmark, whatever their numbers of classes."""

import pickle

import numpy as np
import official_layout as layout
import pytest
import torch
from avalanche.benchmarks.utils.classification_dataset import (
    TaskAwareSupervisedClassificationDataset,
)
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from avalanche_mas.benchmarks.sequence import task_sequence


def numbers(labels, start=0):
    """Samples (x, y), where x is the number of the sample."""
    labels = torch.as_tensor(labels)
    return TensorDataset(torch.arange(start, start + len(labels)).float()[:, None], labels)


class WithTargets(Dataset):
    """Says when a sample is read."""

    def __init__(self, targets):
        self.targets, self.read = targets, []

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor([float(index)]), int(self.targets[index])


PAIRS = [
    (numbers([0, 1, 2] * 4), numbers([2, 1, 0])),
    (numbers([1, 0] * 5), numbers([0, 1, 1, 0])),
    (numbers([0, 8, 3, 1] * 3), numbers([8])),
]


def rows(dataset):
    return [int(sample[0]) for sample in dataset]


def test_experiences():
    benchmark = task_sequence(PAIRS, names=["a", "b", "c"])
    assert list(benchmark.streams) == ["train", "test"]
    assert benchmark.task_names == ["a", "b", "c"]
    assert benchmark.n_experiences == 3
    for stream, sizes in (("train", [12, 10, 12]), ("test", [3, 4, 1])):
        experiences = benchmark.streams[stream]
        assert experiences is getattr(benchmark, f"{stream}_stream")
        assert [len(experience.dataset) for experience in experiences] == sizes
        for at, experience in enumerate(experiences):
            assert experience.current_experience == experience.task_label == at
            assert experience.task_labels == [at]
            assert experience.task_name == "abc"[at]
            assert experience.origin_stream.name == stream
            assert experience.origin_stream.benchmark is experience.benchmark is benchmark
            assert isinstance(experience.dataset, TaskAwareSupervisedClassificationDataset)
            assert set(experience.dataset.targets_task_labels) == {at}


def test_classes_are_sorted_lists():
    """A set is no index for Avalanche's heads; the test stream has the classes of the task."""
    benchmark = task_sequence(PAIRS)
    for stream in benchmark.streams.values():
        found = [experience.classes_in_this_experience for experience in stream]
        assert found == [[0, 1, 2], [0, 1], [0, 1, 3, 8]]
        assert all(type(classes) is list for classes in found)
    middle = benchmark.train_stream[1]
    assert middle.previous_classes == middle.classes_seen_so_far == [0, 1, 2]
    assert middle.future_classes == [0, 1, 3, 8]


def test_samples_and_slices():
    benchmark = task_sequence(PAIRS)
    x, y, task = benchmark.test_stream[2].dataset[0]
    assert (x.tolist(), int(y), task) == ([0.0], 8, 2)
    later = benchmark.train_stream[1:]
    assert [experience.current_experience for experience in later] == [1, 2]
    assert later[0].origin_stream.benchmark is benchmark


def test_default_names():
    assert task_sequence(PAIRS).task_names == ["task 0", "task 1", "task 2"]


@pytest.mark.parametrize(
    "dataset",
    [
        numbers([0, 1, 2]),
        WithTargets([0, 1, 2]),
        WithTargets(torch.tensor([0, 1, 2])),
        WithTargets(np.array([0, 1, 2], np.uint8)),
        Subset(numbers([5, 0, 5, 1, 2]), [1, 3, 4]),
        Subset(WithTargets([5, 0, 5, 1, 2]), [1, 3, 4]),
        ConcatDataset([numbers([0]), WithTargets([1, 2])]),
    ],
    ids=["tensors", "list", "tensor", "array", "subset", "subset of targets", "concatenation"],
)
def test_kinds_of_datasets(dataset):
    experience = task_sequence([(dataset, dataset)]).train_stream[0]
    assert list(experience.dataset.targets) == experience.classes_in_this_experience == [0, 1, 2]
    assert all(type(label) is int for label in experience.dataset.targets)
    assert [(int(y), t) for _, y, t in experience.dataset] == [(0, 0), (1, 0), (2, 0)]


def test_a_task_of_another_benchmark():
    """Its samples get the task label that they have here, and no second one."""
    other = task_sequence(PAIRS).train_stream[1].dataset
    benchmark = task_sequence([PAIRS[0], (other, PAIRS[1][1]), (other, other)])
    assert [tuple(sample[2:]) for sample in benchmark.train_stream[2].dataset] == [(2,)] * 10


def test_image_folder(tmp_path):
    """Three lines, as in the README."""
    for task, classes in (("fruit", "abc"), ("tools", "de")):
        for split in ("train", "test"):
            for at, name in enumerate(classes):
                layout.put(tmp_path / task / split / name / "0.jpg", layout.picture(at))
    folders = [tmp_path / "fruit", tmp_path / "tools"]
    pairs = [(ImageFolder(folder / "train"), ImageFolder(folder / "test")) for folder in folders]
    benchmark = task_sequence(pairs, train_transform=ToTensor(), eval_transform=ToTensor())
    assert benchmark.train_stream[1].classes_in_this_experience == [0, 1]
    x, y, task = benchmark.train_stream[0].dataset[2]
    assert (x.shape, y, task) == ((3, 9, 12), 2, 0)


def test_nothing_is_read_until_needed():
    data = WithTargets([0, 1] * 20)
    benchmark = task_sequence([(data, data)], validation=0.5)
    assert data.read == []
    _ = benchmark.valid_stream[0].dataset[3]
    assert len(data.read) == 1


class Add:
    """A transform that can be pickled."""

    def __init__(self, amount):
        self.amount = amount

    def __call__(self, x):
        return x + self.amount


def test_transforms():
    """Training samples have another transform when they are measured on."""
    benchmark = task_sequence(
        PAIRS, validation=0.25, train_transform=Add(100), eval_transform=[Add(1000), None, Add(7)]
    )
    train, valid, test = (benchmark.streams[name] for name in ("train", "valid", "test"))
    kept = rows(numbers([0] * 12))
    assert min(rows(train[0].dataset)) >= 100
    assert {row - 100 for row in rows(train[0].dataset)} < set(kept)
    assert [row - 1000 for row in rows(train[0].dataset.eval())] == [
        row - 100 for row in rows(train[0].dataset)
    ]
    assert rows(test[0].dataset) == [1000, 1001, 1002]
    assert rows(test[0].dataset.eval()) == [1000, 1001, 1002]
    assert min(rows(valid[0].dataset)) >= 1000
    assert rows(test[1].dataset) == [0, 1, 2, 3]
    assert rows(test[2].dataset) == [7]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_validation(share):
    plain, benchmark = task_sequence(PAIRS), task_sequence(PAIRS, validation=share, seed=3)
    assert set(benchmark.streams) == {"train", "test", "valid"}
    for at, valid in enumerate(benchmark.valid_stream):
        whole, train = plain.train_stream[at], benchmark.train_stream[at]
        both = rows(train.dataset) + rows(valid.dataset)
        assert sorted(both) == sorted(rows(whole.dataset))
        assert len(valid.dataset) == round(share * len(whole.dataset))
        assert set(train.dataset.targets) == set(whole.classes_in_this_experience)
        assert valid.classes_in_this_experience == whole.classes_in_this_experience
        assert valid.task_labels == train.task_labels == [at]
        assert {sample[2] for sample in valid.dataset} == {at}
        assert rows(benchmark.test_stream[at].dataset) == rows(plain.test_stream[at].dataset)


def test_the_seed_draws_the_validation_samples():
    drawn = [
        rows(task_sequence(PAIRS, validation=0.5, seed=seed).valid_stream[0].dataset)
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_pickle():
    benchmark = pickle.loads(pickle.dumps(task_sequence(PAIRS, train_transform=Add(1))))
    experience = benchmark.train_stream[2]
    assert experience.origin_stream.benchmark is benchmark
    assert rows(experience.dataset)[:2] == [1, 2]


GOOD = numbers([0, 1])


@pytest.mark.parametrize(
    ("tasks", "options", "error", "message"),
    [
        ([], {}, ValueError, "tasks is empty"),
        ([(GOOD, GOOD)], {"validation": 1.0}, ValueError, "validation is 1.0: give a share"),
        ([(GOOD, GOOD)], {"validation": -0.1}, ValueError, "validation is -0.1: give a share"),
        ([(GOOD, GOOD)], {"validation": 0.9}, ValueError, "too much for 'task 0': 2 of 2 "),
        ([(GOOD, GOOD)], {"names": ["a", "b"]}, ValueError, "give 1 different names"),
        ([(GOOD, GOOD)] * 2, {"names": ["a", "a"]}, ValueError, "give 2 different names"),
        ([(GOOD, GOOD)] * 2, {"eval_transform": [None]}, ValueError, "eval_transform has 1 entr"),
        ([(WithTargets([]), GOOD)], {}, ValueError, "the training dataset of 'task 0' is empty"),
        ([(GOOD, WithTargets([]))], {}, ValueError, "the test dataset of 'task 0' is empty"),
        ([([(1, 2)], GOOD)], {}, TypeError, "the training dataset of 'task 0', a list, has no"),
        ([(GOOD, WithTargets([0.5]))], {}, TypeError, "the test dataset of 'task 0', a WithTar"),
        ([(WithTargets([[0, 1]]), GOOD)], {}, TypeError, "has no integer labels"),
        (
            [(TensorDataset(torch.zeros(2, 1), torch.zeros(2, 3)), GOOD)],
            {},
            TypeError,
            "Targets of a regression are no classes: make its stream with regression_sequence",
        ),
        ([(TensorDataset(torch.zeros(2, 1), torch.zeros(2)), GOOD)], {}, TypeError, "regression"),
        (
            [(TensorDataset(torch.zeros(2, 1), torch.zeros(2, 4, 4).long()), GOOD)],
            {},
            TypeError,
            "no integer labels",
        ),
        ([(GOOD, numbers([0, -1]))], {}, ValueError, "has the label -1: labels must be"),
        ([(GOOD, numbers([0, 2, 3]))], {}, ValueError, r"has the labels \[2, 3\], which its train"),
        ([(numbers([2, 3]), numbers([2]))], {}, ValueError, "'task 0' begin at 2: number the"),
    ],
)
def test_bad_input(tasks, options, error, message):
    with pytest.raises(error, match=message):
        task_sequence(tasks, **options)


def test_classes_that_do_not_match():
    """A test folder without one of the classes would shift the labels of all later ones."""
    train, test = WithTargets([0, 1, 2]), WithTargets([0, 1])
    train.classes, test.classes = ["ant", "bee", "cat"], ["ant", "cat"]
    with pytest.raises(ValueError, match=r"of 'animals' do not have the same classes.*'bee'"):
        task_sequence([(train, test)], names=["animals"])


def test_one_head_for_all_tasks():
    benchmark = task_sequence(PAIRS, names=["a", "b", "c"], validation=0.25, one_head=True)
    heads = task_sequence(PAIRS, names=["a", "b", "c"], validation=0.25)
    # unused numbers of the last task stay unused
    classes = [[0, 1, 2], [3, 4], [5, 6, 8, 13]]
    seen = [[0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 8, 13]]
    assert list(benchmark.streams) == ["train", "test", "valid"]
    for name, stream in benchmark.streams.items():
        for at, experience in enumerate(stream):
            assert experience.current_experience == at
            assert experience.task_label == 0
            assert experience.task_labels == [0]
            assert experience.classes_in_this_experience == classes[at]
            assert experience.classes_seen_so_far == seen[at]
            x, y, t = zip(*experience.dataset, strict=True)
            x_head, y_head, _ = zip(*heads.streams[name][at].dataset, strict=True)
            assert torch.equal(torch.stack(x), torch.stack(x_head))
            assert [int(label) - classes[at][0] for label in y] == list(map(int, y_head))
            assert list(experience.dataset.targets) == list(map(int, y))
            assert set(t) == {0}
