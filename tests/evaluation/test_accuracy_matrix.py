import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import SimpleMLP
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import JointTraining, Naive

from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.evaluation import AccuracyMatrix, average_accuracy, final_accuracy, forgetting

nan = float("nan")
# Three experiences: the first is half forgotten, the second improves by 0.1.
R = [[0.9, nan, nan], [0.6, 0.7, nan], [0.4, 0.8, 1.0]]


def test_formulas_on_a_matrix_worked_out_by_hand():
    assert final_accuracy(R) == pytest.approx((0.4 + 0.8 + 1.0) / 3)
    assert forgetting(R) == pytest.approx(((0.9 - 0.4) + (0.7 - 0.8)) / 2)
    np.testing.assert_allclose(average_accuracy(R), [0.9, 0.65, 2.2 / 3])


def test_the_last_experience_cannot_have_been_forgotten():
    assert forgetting([[0.5, nan], [0.5, 0.1]]) == 0.0


def test_joint_training_has_a_final_accuracy_but_no_forgetting():
    one_row = [[0.8, 0.9, 1.0]]
    assert final_accuracy(one_row) == pytest.approx(0.9)
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        forgetting(one_row)
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        average_accuracy(one_row)


@pytest.mark.parametrize(
    ("function", "matrix", "message"),
    [
        (final_accuracy, [0.5, 0.6], "two dimensions"),
        (final_accuracy, np.empty((0, 0)), "two dimensions"),
        (final_accuracy, [[0.5, nan]], "last row"),
        (forgetting, [[0.5]], "at least two"),
        (forgetting, [[nan, nan], [0.5, 0.5]], "diagonal"),
        (average_accuracy, [[0.5, nan], [nan, 0.5]], "row 1"),
    ],
)
def test_unusable_matrices_are_refused(function, matrix, message):
    with pytest.raises(ValueError, match=message):
        function(matrix)


def train_and_watch(strategy_class, **options):
    """Give a strategy, trained on nothing yet, and what it is measured with."""
    matrix, official = AccuracyMatrix(), EvaluationPlugin(accuracy_metrics(experience=True))
    official.metrics.append(matrix)
    model = SimpleMLP(input_size=64, hidden_size=20, drop_rate=0.0)
    strategy = strategy_class(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=64,
        eval_mb_size=100,
        evaluator=official,
        **options,
    )
    return strategy, matrix


def test_entries_equal_avalanches_own_experience_accuracy():
    benchmark = permuted_digits(3)
    strategy, matrix = train_and_watch(Naive)
    expected = np.full((3, 3), nan)
    for i, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        seen = strategy.eval(benchmark.test_stream[: i + 1])
        for j in range(i + 1):
            expected[i, j] = seen[f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{j:03d}"]
    np.testing.assert_array_equal(matrix.result(), expected)
    assert len(np.unique(expected[~np.isnan(expected)])) > 3  # not a matrix of constants


@pytest.mark.parametrize("eval_every", [0, 1])  # after each experience; after each epoch
def test_only_models_that_finished_an_experience_have_a_row(eval_every):
    benchmark = permuted_digits(2)
    strategy, matrix = train_and_watch(Naive, train_epochs=2, eval_every=eval_every)
    strategy.eval(benchmark.test_stream)  # before any training
    assert matrix.result().shape == (0, 0)
    first, second = benchmark.train_stream
    strategy.train(first, eval_streams=[benchmark.test_stream])
    strategy.eval(benchmark.test_stream)
    first_row = matrix.result()[0]
    strategy.train(second, eval_streams=[benchmark.test_stream])
    np.testing.assert_array_equal(matrix.result()[0], first_row)
    strategy.eval(benchmark.train_stream)  # another stream
    last_row = matrix.result()[-1]
    strategy.eval(benchmark.test_stream)
    assert matrix.result().shape == (2, 2)
    if eval_every == 0:
        np.testing.assert_array_equal(last_row, matrix.result()[-1])
    else:  # the last epoch's evaluation came before the experience was finished
        assert np.isnan(last_row).all()


def test_joint_training_fills_one_row_and_reset_empties_it():
    benchmark = permuted_digits(2)
    strategy, matrix = train_and_watch(JointTraining)
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    assert matrix.result().shape == (1, 2)
    assert not np.isnan(matrix.result()).any()
    matrix.reset()
    assert matrix.result().size == 0
