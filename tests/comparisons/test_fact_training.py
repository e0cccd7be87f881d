"""Single cells of the fact experiments."""

from dataclasses import replace

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.supervised import Naive
from torch import nn
from torch.optim import SGD
from torch.utils.data import TensorDataset

from avalanche_mas.miniature.facts import WORD_VECTORS
from avalanche_mas.models import fact_small
from avalanche_mas.models.efficientnet import trained_part
from avalanche_mas.models.fact_network import fact_branches
from benchmarks.experiments import figure7, table4
from benchmarks.facts.cell import FactCell, FactData
from benchmarks.facts.data import located
from benchmarks.facts.experiment import PAPER
from benchmarks.facts.training import _optimizer, run_cell, silent_share


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def cells(experiment, lam=None):
    """By label, a cell of each row."""
    settings = experiment.FAST
    training = replace(settings.training, epochs=2)
    return {
        row.label: FactCell(settings.split, row, lam, 0, 0.0, settings.data, training)
        for row in settings.rows
    }


def test_where_importance_is_measured_matters_from_the_second_task_on():
    of_table, of_figure = cells(table4, lam=1e3), cells(figure7, lam=1e3)
    for one, other in (
        (of_table["MAS"], of_table["MAS, train and test"]),
        (of_figure["MAS"], of_figure["MAS, sports only"]),
        (of_figure["MAS, sports only"], of_figure["MAS, sports only, summed"]),
    ):
        a, b = run_cell(one), run_cell(other)
        assert a.tasks[0] == b.tasks[0]
        assert a.weights_sha256 != b.weights_sha256
        assert a.memory_bytes == b.memory_bytes > 0


def test_the_same_cell_gives_the_same_numbers():
    cell = cells(figure7)["finetuning"]
    first, again = run_cell(cell), run_cell(cell)
    assert replace(first, train_seconds=0) == replace(again, train_seconds=0)
    assert [len(row) for row in first.tasks] == [4] * 4
    assert len(first.overall) == len(first.subset) == 4
    other = run_cell(replace(cell, seed=1))
    assert other.weights_sha256 != first.weights_sha256


def test_joint_training_has_one_row():
    joint = run_cell(cells(figure7)["joint"])
    assert [len(part) for part in (joint.tasks, joint.overall, joint.subset)] == [1, 1, 1]
    assert joint.memory_bytes == 0


def test_training_teaches():
    cell = cells(table4)["finetuning"]
    first = run_cell(cell).tasks[0][0]
    longer = replace(cell, training=replace(cell.training, epochs=60, image_size=32))
    assert run_cell(longer).tasks[0][0] > 1.5 * first


def test_the_optimizer_is_the_one_asked_for():
    cell = cells(table4)["finetuning"]
    weights = {}
    for optimizer in ("sgd", "adam"):
        for momentum in (0.0, 0.9):
            training = replace(cell.training, optimizer=optimizer, momentum=momentum)
            result = run_cell(replace(cell, training=training))
            weights[optimizer, momentum] = result.weights_sha256
    assert weights["adam", 0.0] == weights["adam", 0.9]  # it is SGD's
    assert len(set(weights.values())) == 3


def test_last_layers_and_biases_have_their_own_rates():
    for network in (fact_small(dim=2), fact_branches(trained_part(), dim=2)):
        optimizer = _optimizer(network, PAPER)
        found = {
            id(p): (group["lr"] / PAPER.learning_rate, group["weight_decay"])
            for group in optimizer.param_groups
            for p in group["params"]
        }
        for name, parameter in network.named_parameters():
            last, bias = name.startswith("branches."), name.endswith(".bias")
            rate = {(0, 0): 1, (0, 1): 4, (1, 0): 10, (1, 1): 20}[last, bias]
            assert found[id(parameter)] == (pytest.approx(rate), 0 if bias else 5e-4), name


def test_silent_units_are_counted():
    """Of two pictures the first wakes units 0 and 1, the second 0 and 2, and none wakes 3."""
    data = TensorDataset(torch.eye(3)[1:], torch.zeros(2))
    linear = nn.Linear(3, 4, bias=False)
    linear.weight.data = torch.tensor([[1, 1, 1], [0, 1, -1], [0, -1, 1], [1, 0, -1]]).float()
    model = nn.Sequential(linear, nn.ReLU()).train()
    strategy = Naive(model=model, optimizer=SGD(model.parameters(), 0.1), criterion=nn.MSELoss())
    benchmark = benchmark_from_datasets(train=[AvalancheDataset([data])])
    assert silent_share(strategy, benchmark.train_stream[0]) == 0.25
    assert model.training


def test_the_pretrained_network_learns_facts():
    training = figure7.FAST.trainings[0]
    assert training.network == "pretrained"
    found = run_cell(replace(cells(figure7)["joint"], training=training))
    assert 0 < found.silent[0] < 1
    assert not found.diverged


def test_data_from_a_folder():
    root, vectors = located(FactData(most=6))
    assert vectors == root / WORD_VECTORS
    cell = cells(table4)["finetuning"]
    training = replace(cell.training, optimizer="sgd", decay_after=1, weight_decay=1e-3)
    for words in (None, str(vectors)):
        data = FactData(str(root), words)
        result = run_cell(replace(cell, data=data, training=training))
        assert len(result.tasks) == 4
        assert all(0 < value <= 1 for row in result.tasks for value in row)
