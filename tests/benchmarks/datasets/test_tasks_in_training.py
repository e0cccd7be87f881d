"""Avalanche's strategies, metrics and plugins on tasks with unequal numbers of classes."""

import pytest
import torch
from avalanche.evaluation.metrics import (
    StreamConfusionMatrix,
    accuracy_metrics,
    forgetting_metrics,
)
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from avalanche.training.plugins import EvaluationPlugin, EWCPlugin, LwFPlugin
from avalanche.training.supervised import Naive
from official_layout import all_eight
from torch import nn

from avalanche_mas import LocalMASPlugin, MASPlugin
from avalanche_mas.benchmarks.object_benchmark import Preprocessing, object_recognition

TASKS = ("flowers", "cars", "scenes")
CLASSES = [3, 5, 2]
STREAMS = ["train", "test", "valid", ["train", "test"], ["valid", "test", "train"]]


class MultiHead(MultiTaskModule):
    """A batch of one task gets the logits of its own head, and no more."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 10), nn.ReLU())
        self.heads = MultiHeadClassifier(10)
        self.widths = []

    def forward(self, x, task_labels):
        if isinstance(task_labels, torch.Tensor) and len(set(task_labels.tolist())) == 1:
            task_labels = int(task_labels[0])
        logits = self.heads(self.features(x), task_labels)
        if isinstance(logits, torch.Tensor):  # and not those of every head, which LwF asks for
            self.widths.append(logits.shape[1])
        return logits


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    root = all_eight(tmp_path_factory.mktemp("root"))
    return object_recognition(root, TASKS, transform=Preprocessing(7, 6), validation=0.2)


def train(benchmark, *plugins):
    model = MultiHead()
    evaluator = EvaluationPlugin(
        accuracy_metrics(stream=True, experience=True),
        forgetting_metrics(experience=True),
        StreamConfusionMatrix(save_image=False),
        loggers=[],
        strict_checks=True,
    )
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_mb_size=2,
        eval_mb_size=3,
        train_epochs=2,
        plugins=list(plugins),
        evaluator=evaluator,
    )
    results = []
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[benchmark.valid_stream])
        results.append(strategy.eval(benchmark.test_stream))
    return model, results


def test_heads_are_as_wide_as_their_tasks(benchmark):
    model, results = train(benchmark)
    heads = model.heads.classifiers.values()
    assert [head.classifier.out_features for head in heads] == CLASSES
    assert set(model.widths) == set(CLASSES)
    name = "Top1_Acc_Exp/eval_phase/test_stream/Task{0:03d}/Exp{0:03d}"
    for result in results:
        assert all(0 <= result[name.format(task)] <= 1 for task in range(3))


@pytest.mark.parametrize("plugin", [MASPlugin, LocalMASPlugin])
@pytest.mark.parametrize("streams", STREAMS, ids=str)
def test_mas_finds_every_stream(benchmark, plugin, streams):
    """Importance counts the samples of all the streams that it was measured on."""
    mas = plugin(streams=streams)
    train(benchmark, mas)
    names = [streams] if isinstance(streams, str) else streams
    sizes = [sum(len(benchmark.streams[name][task].dataset) for name in names) for task in range(3)]
    assert mas.importance.samples == sum(sizes)
    assert any(tensor.sum() > 0 for tensor in mas.importance.values())


@pytest.mark.parametrize(
    "plugin", [lambda: LwFPlugin(), lambda: EWCPlugin(0.1)], ids=["LwF", "EWC"]
)
def test_methods_of_avalanche(benchmark, plugin):
    train(benchmark, plugin())
