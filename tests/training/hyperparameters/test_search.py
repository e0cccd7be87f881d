"""Whether each task gets the λ and the learning rate that Algorithm 1 of De Lange et al. finds."""

import math

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import TextLogger
from avalanche.training.plugins import EvaluationPlugin
from finding import MAS, RATES, everything, find, make
from torch.utils.data import TensorDataset

from avalanche_mas.benchmarks import permuted_digits, split_digits
from avalanche_mas.evaluation import AccuracyMatrix
from avalanche_mas.plugins.registry import METHODS
from avalanche_mas.training.checkpoint import maybe_load_checkpoint, save_checkpoint
from avalanche_mas.training.hyperparameters import DivergedError, continual_hyperparameters
from avalanche_mas.training.trial_runs import accuracy


@pytest.fixture(scope="module")
def digits():
    """Five tasks with a head each, and data to judge by."""
    return split_digits(5, validation=0.2)


def test_a_strength_that_freezes_the_network_decays():
    benchmark = permuted_digits(2, validation=0.2)
    strategy = make(MAS)
    find(strategy, benchmark, 0)
    anchor = {name: p.clone() for name, p in strategy.model.named_parameters()}
    found = find(strategy, benchmark, 1, max_trials=8)
    finetuned, decays = found.trials[:2], found.trials[2:]
    assert [trial.learning_rate for trial in finetuned] == list(RATES)
    assert {trial.strength for trial in finetuned} == {0.0}
    assert found.best_accuracy == max(trial.accuracy for trial in finetuned)
    assert {trial.learning_rate for trial in decays} == {found.learning_rate}
    assert [t.strength for t in decays] == pytest.approx(
        [1e6 * 0.01**k for k in range(len(decays))]
    )
    assert len(decays) > 1
    assert all(trial.accuracy < 0.8 * found.best_accuracy for trial in decays[:-1])
    assert decays[-1].accuracy >= 0.8 * found.best_accuracy
    assert (found.strength, found.accuracy) == (decays[-1].strength, decays[-1].accuracy)
    assert found.within_margin
    # What was rejected had not moved what it protects; what was taken has.
    strategy.plugins[0].lambda_reg = 1e6
    moved = max((p - anchor[n]).abs().max() for n, p in strategy.model.named_parameters())
    assert moved > 1e-3


def test_the_margin_decides():
    """With a margin of nearly everything the first λ is taken, with none a smaller one."""
    benchmark, taken = permuted_digits(2, validation=0.2), []
    for margin in (0.95, 0.3, 0.1):
        strategy = make(MAS)
        find(strategy, benchmark, 0)
        taken.append(find(strategy, benchmark, 1, drop_margin=margin, max_trials=9).strength)
    assert taken[0] == 1e6
    assert taken[0] > taken[1] > taken[2]


class Recording(TensorDataset):
    """Notes that samples are read."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


def test_no_other_data_are_read():
    benchmark = permuted_digits(3, validation=0.2)
    records, streams = {}, {}
    for name, stream in benchmark.streams.items():
        for experience in stream:
            x, y, _ = zip(*experience.dataset, strict=True)
            records[name, experience.current_experience] = Recording(
                torch.stack(x), torch.tensor(y)
            )
        streams[name] = [AvalancheDataset([records[name, i]]) for i in range(3)]
    recorded = benchmark_from_datasets(**streams)
    strategy = make(MAS)
    find(strategy, recorded, 0)
    before = {key: record.reads for key, record in records.items()}
    found = find(strategy, recorded, 1)
    read = {key: record.reads - before[key] for key, record in records.items()}
    assert {key for key, times in read.items() if times} == {("train", 1), ("valid", 1)}
    finetuned, learnt = 2, len(found.trials) - 2
    epochs, tried = divmod(read["train", 1], len(records["train", 1]))
    assert epochs == finetuned + 2 * learnt  # and for Ω
    assert tried <= 2 * len(found.trials)  # a sample before each training
    assert read["valid", 1] == len(found.trials) * len(records["valid", 1])


def test_metrics_see_what_was_taken_and_loggers_nothing(digits, tmp_path):
    with (tmp_path / "log").open("w") as file:
        logger = TextLogger(file)
        evaluator = EvaluationPlugin(
            accuracy_metrics(epoch=True), AccuracyMatrix("valid"), loggers=[logger]
        )
        strategy = make(MAS, heads=True, evaluator=evaluator)
        find(strategy, digits, 0)
        assert (tmp_path / "log").read_text() == ""
        assert strategy.evaluator.loggers == [logger]
        (epochs,) = strategy.evaluator.get_all_metrics().values()
        assert len(epochs[0]) == 1
        strategy.eval(digits.valid_stream[:1])
    assert "Start of eval" in (tmp_path / "log").read_text()
    assert strategy.evaluator.metrics[-1].result().shape == (1, 1)


def test_an_error_leaves_the_strategy_as_it_was(digits):
    strategy = make(MAS, heads=True)
    find(strategy, digits, 0)
    before, model = everything(MAS, strategy), strategy.model
    state = torch.get_rng_state()

    def broken(strategy, experience):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        find(strategy, digits, 1, score=broken)
    assert strategy.model is model
    torch.set_rng_state(state)
    assert everything(MAS, strategy) == before


def test_divergence_is_a_trial_that_fails(digits):
    strategy = make(MAS, heads=True)
    found = find(strategy, digits, 0, learning_rates=(1e30, 0.02))
    assert math.isnan(found.trials[0].accuracy)
    assert found.learning_rate == 0.02
    with pytest.raises(DivergedError, match="each of the learning rates"):
        find(strategy, digits, 1, learning_rates=(1e30,))
    assert strategy.clock.train_exp_counter == 1


def test_a_strength_with_which_training_diverges_is_never_taken(digits):
    """Avalanche's penalty is a gradient, which overshoots."""
    method = METHODS["AvalancheEWC"]
    strategy = make(method, heads=True)
    find(strategy, digits, 0, method)
    found = find(strategy, digits, 1, method, strength=1e20, decay=1e-11, drop_margin=0.9)
    assert math.isnan(found.trials[2].accuracy)
    assert found.strength == found.trials[-1].strength < 1e20
    assert all(p.isfinite().all() for p in strategy.model.parameters())
    with pytest.raises(DivergedError, match="down to 1e\\+20"):
        find(strategy, digits, 2, method, strength=1e20, max_trials=1)


def test_without_any_strength_within_the_margin_the_last_is_taken(digits):
    strategy = make(MAS, heads=True)

    def score(strategy, experience):
        return float(strategy.plugins[0].lambda_reg == 0)

    with pytest.warns(UserWarning, match="from 1e\\+06 down to 10000, accuracy stays below"):
        found = find(strategy, digits, 0, score=score, max_trials=2)
    assert (found.strength, found.accuracy, found.within_margin) == (1e4, 0.0, False)
    assert strategy.plugins[0].lambda_reg == found.strength
    assert strategy.clock.train_exp_counter == 1


def test_going_on_from_a_checkpoint(digits, tmp_path):
    weights = []
    for interrupted in (False, True):
        strategy = make(MAS, heads=True)
        find(strategy, digits, 0)
        if interrupted:
            save_checkpoint(strategy, tmp_path / "after_0")
            strategy, start = maybe_load_checkpoint(make(MAS, heads=True), tmp_path / "after_0")
            assert start == 1
        find(strategy, digits, 1)
        weights.append(everything(MAS, strategy))
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "strength must be a positive number, got 0.0"),
        ({"strength": math.inf}, "strength must be a positive number, got inf"),
        ({"strength": None}, "give both set_strength and strength"),
        ({"learning_rates": ()}, "learning_rates must be positive"),
        ({"learning_rates": (0.1, -0.1)}, "learning_rates must be positive"),
        ({"drop_margin": 1.0}, "drop_margin must lie in"),
        ({"decay": 1.0}, "decay must lie between"),
        ({"max_trials": 0}, "max_trials must be at least 1"),
        ({"score": lambda strategy, experience: -1.0}, "score must not be negative"),
    ],
)
def test_bad_options_are_refused(options, message, digits):
    strategy = make(MAS, heads=True)
    with pytest.raises(ValueError, match=message):
        find(strategy, digits, 0, **options)
    assert strategy.clock.train_exp_counter == 0


def test_bad_validation_data_are_refused(digits):
    strategy = make(MAS, heads=True)
    train, valid = digits.train_stream, digits.valid_stream
    empty = benchmark_from_datasets(valid=[AvalancheDataset([TensorDataset(torch.zeros(0, 1))])])
    for held, message in (
        (train[0], "validation is the data to be trained on"),
        (valid[1], "of task \\[1\\], the experience of task \\[0\\]"),
        (empty.valid_stream[0], "validation has no samples"),
    ):
        with pytest.raises(ValueError, match=message):
            continual_hyperparameters(
                strategy, train[0], held, set_strength=MAS.set_strength, strength=1.0
            )


def test_accuracy_is_avalanches_and_draws_no_random_number(digits):
    strategy = make(
        MAS, heads=True, evaluator=EvaluationPlugin(AccuracyMatrix("valid"), loggers=[])
    )
    strategy.train(digits.train_stream[0])
    state = torch.get_rng_state()
    ours = accuracy(strategy, digits.valid_stream[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert strategy.evaluator.metrics[0].result().size == 0
    strategy.eval(digits.valid_stream[:1])
    assert ours == strategy.evaluator.metrics[0].result()[0, 0]
    assert 0.2 < ours < 1
