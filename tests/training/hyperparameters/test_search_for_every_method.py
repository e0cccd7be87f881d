"""What must hold for every method of the registry when its λ is searched, or set later."""

import warnings

import pytest
import torch
from finding import MAS, everything, find, make, options_of

from avalanche_mas.benchmarks import split_digits
from avalanche_mas.plugins.registry import METHODS
from avalanche_mas.training.hyperparameters import set_learning_rate
from avalanche_mas.training.trial_runs import accuracy

CONTINUAL = [name for name in METHODS if name != "joint"]  # which learns everything at once
PROTECTING = [name for name in CONTINUAL if METHODS[name].plugin]


@pytest.fixture(scope="module")
def digits():
    """Five tasks with a head each, and data to judge by."""
    return split_digits(5, validation=0.2)


@pytest.mark.parametrize("name", CONTINUAL)
def test_it_is_a_direct_run_with_the_values_that_were_taken(name, digits):
    """Bit by bit, after two experiences with it and a third without."""
    method = METHODS[name]
    strategy = make(method, heads=True, options=options_of(name))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="with all strengths")
        taken = [find(strategy, digits, index, method, max_trials=2) for index in range(2)]
    states = [everything(method, strategy)]
    strategy.train(digits.train_stream[2])
    states.append(everything(method, strategy))

    strategy = make(method, heads=True, options=options_of(name))
    for index, found in enumerate(taken):
        set_learning_rate(strategy, found.learning_rate)
        if method.plugin:
            method.set_strength(strategy, found.strength)
        strategy.train(digits.train_stream[index])
        assert accuracy(strategy, digits.valid_stream[index]) == found.accuracy
    direct = [everything(method, strategy)]
    strategy.train(digits.train_stream[2])
    direct.append(everything(method, strategy))
    assert states == direct

    # In the first experience there is nothing to protect, so that every λ is finetuning.
    first = taken[0]
    assert [trial.phase for trial in first.trials][:2] == ["plasticity"] * 2
    assert first.accuracy == first.best_accuracy
    assert len(first.trials) == 2 + bool(method.plugin)


@pytest.mark.parametrize("name", PROTECTING)
def test_a_strength_set_later_is_as_one_from_the_start(name, digits):
    method, runs = METHODS[name], []
    for start, later in ((3.0, None), (1e3, 3.0), (1e3, None)):
        strategy = make(method, start, heads=True, options=options_of(name))
        strategy.train(digits.train_stream[0])
        if later is not None:
            method.set_strength(strategy, later)
        strategy.train(digits.train_stream[1])
        runs.append(torch.cat([p.flatten() for p in strategy.model.parameters()]))
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2]) == (name == "AvalancheSI")  # which does nothing on a CPU


def test_a_strength_is_refused_that_the_method_refuses(digits):
    strategy = make(MAS)
    with pytest.raises(ValueError, match="lambda_reg"):
        MAS.set_strength(strategy, -1.0)
    assert strategy.plugins[0].lambda_reg == 1.0
    with pytest.raises(ValueError, match="the strategy has 0 plugins"):
        METHODS["SI"].set_strength(strategy, 1.0)
