"""Streams without classes, from data to the matrix of errors."""

import numpy as np
import pytest
import torch
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn, optim
from torch.utils.data import TensorDataset

from avalanche_mas import LwFPlugin, MASPlugin
from avalanche_mas.benchmarks import regression_sequence, task_sequence
from avalanche_mas.evaluation import AccuracyMatrix, ErrorMatrix, final_accuracy, forgetting


def points(*pairs, times=4):
    """Samples (x, y) of one number each."""
    x, y = torch.tensor(pairs * times, dtype=torch.float32)[:, :, None].unbind(1)
    return TensorDataset(x, y)


def images(channels=0):
    """Each pixel has a class, or a vector."""
    x = torch.randn(8, 3, 5, 5)
    return TensorDataset(
        x, torch.randn(8, channels, 5, 5) if channels else torch.ones(8, 5, 5).long()
    )


def run(benchmark, model, *plugins, criterion=None, matrix=None, epochs=1, lr=0.1, **options):
    strategy = Naive(
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=lr),
        criterion=criterion or nn.MSELoss(),
        train_mb_size=4,
        eval_mb_size=3,
        train_epochs=epochs,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(*([matrix] if matrix else []), loggers=[]),
        **options,
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)
    return model


def test_samples_and_names():
    a, b = points((1, 2)), points((3, 4), (5, 6))
    benchmark = regression_sequence(
        [(a, b), (b, a)], ["a", "b"], train_transform=[None, torch.neg], eval_transform=torch.exp
    )
    assert benchmark.task_names == ["a", "b"]
    x, y, task = benchmark.train_stream[1].dataset[1]
    assert (float(x), float(y), task) == (-5, 6, 1)
    assert float(benchmark.train_stream[1].dataset.eval()[1][0]) == pytest.approx(np.exp(5))
    assert float(benchmark.test_stream[1].dataset[0][0]) == pytest.approx(np.exp(1))
    assert not hasattr(benchmark.train_stream[0], "classes_in_this_experience")


def test_the_matrix_of_errors():
    """Each entry is the mean over samples, also where the last mini-batch is smaller."""
    matrix = ErrorMatrix()
    tasks = [points((1, 1)), points((-1, 3), (2, 5), times=2)]
    benchmark = regression_sequence([(task, task) for task in tasks])
    model = run(benchmark, nn.Linear(1, 1), matrix=matrix)
    expected = [float(nn.functional.mse_loss(model(t.tensors[0]), t.tensors[1])) for t in tasks]
    found = matrix.result()
    np.testing.assert_allclose(found[-1], expected, rtol=1e-5)
    assert final_accuracy(matrix) == pytest.approx(np.mean(expected), rel=1e-5)
    assert forgetting(matrix) == pytest.approx(found[1, 0] - found[0, 0])
    assert str(matrix) == "Error_Matrix_test"


DENSE = {"vectors": (images(2), nn.MSELoss()), "classes": (images(), nn.CrossEntropyLoss())}


@pytest.mark.parametrize("name", DENSE)
def test_dense_targets(name):
    """MAS holds the old answers; accuracies and LwF, which need a class for each sample, refuse."""
    data, criterion = DENSE[name]
    benchmark = regression_sequence([(data, data)] * 2)

    def error(output, target):
        return criterion(output, target)

    def network():
        return nn.Conv2d(3, 2, 1)

    matrix, plugin = ErrorMatrix(error), MASPlugin()
    run(benchmark, network(), plugin, criterion=criterion, matrix=matrix)
    assert plugin.importance.samples == 16
    assert np.isfinite(matrix.result()).all()
    with pytest.raises(TypeError, match=r"accuracy needs a class.*shape \(3.*use ErrorMatrix"):
        run(benchmark, network(), criterion=criterion, matrix=AccuracyMatrix())
    model = network()
    before = model.weight.detach().clone()
    with pytest.raises(TypeError, match=r"compares class scores of shape.*use MASPlugin"):
        run(benchmark, model, LwFPlugin(), criterion=criterion)
    assert torch.equal(before, model.weight)


def test_shapes_that_would_be_broadcast():
    x = torch.zeros(4, 1)
    benchmark = regression_sequence([(TensorDataset(x, torch.zeros(4)),) * 2])
    with (
        pytest.warns(UserWarning, match="target size"),
        pytest.raises(ValueError, match=r"output has shape \(3, 1\), the targets have \(3,\)"),
    ):
        run(benchmark, nn.Linear(1, 1), matrix=ErrorMatrix())


def test_what_is_refused():
    good = points((1, 1))
    with pytest.raises(ValueError, match="tasks is empty"):
        regression_sequence([])
    with pytest.raises(ValueError, match="the test dataset of 'task 0' is empty"):
        regression_sequence([(good, TensorDataset(torch.zeros(0, 1), torch.zeros(0, 1)))])
    with pytest.raises(TypeError, match="make its stream with regression_sequence"):
        task_sequence([(good, good)])


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_where_mas_does_harm(strength):
    """y = ax + b on x = 2, then on x = −½: what the second asks of (a, b) leaves the first alone.

    Ω says of each parameter alone how much it matters, and the penalty bends the way off it.
    """
    first, second = points((2, 1)), points((-0.5, 1))
    benchmark = regression_sequence([(first, first), (second, second)])
    errors = {}
    for name, plugins in {"finetuning": [], "MAS": [MASPlugin(strength)]}.items():
        model, matrix = nn.Linear(1, 1), ErrorMatrix()
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        run(benchmark, model, *plugins, matrix=matrix, epochs=40)
        errors[name] = matrix.result()[-1]
    assert (errors["finetuning"] < 1e-8).all()
    assert (errors["MAS"] > 1e-7).all(), errors
