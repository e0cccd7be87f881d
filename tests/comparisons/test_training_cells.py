import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from avalanche_mas.evaluation import final_accuracy, forgetting
from avalanche_mas.plugins.registry import METHODS
from benchmarks.digits.cell import DigitsCell
from benchmarks.experiments.digits import FAST, run_cell

FINETUNING = DigitsCell("permuted", 2, "finetuning", None, 0, 0.0, FAST.training)


def numbers(result):
    """All of a result that must not depend on when and where it was made."""
    return replace(result, train_seconds=0.0, consolidation_seconds=0.0)


@pytest.fixture(scope="module")
def finetuning():
    return run_cell(FINETUNING)


def test_a_cell_gives_the_same_numbers_again_in_any_order_and_process(finetuning):
    run_cell(replace(FINETUNING, seed=1))  # something in between
    assert numbers(run_cell(FINETUNING)) == numbers(finetuning)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert numbers(pool.submit(run_cell, FINETUNING).result()) == numbers(finetuning)


def test_the_seed_the_validation_part_and_the_benchmark_matter(finetuning):
    for change in ({"seed": 1}, {"validation": 0.2}, {"benchmark": "split"}):
        other = run_cell(replace(FINETUNING, **change))
        assert other.weights_sha256 != finetuning.weights_sha256


@pytest.mark.parametrize(("validation", "scored_on"), [(0.2, 260), (0.0, 500)])
def test_lambda_is_chosen_on_validation_images_and_never_on_test_images(validation, scored_on):
    result = run_cell(replace(FINETUNING, validation=validation))
    for accuracy in (result.accuracy[0][0], result.accuracy[1][0], result.accuracy[1][1]):
        right_answers = accuracy * scored_on
        assert right_answers == pytest.approx(round(right_answers), abs=1e-6)


def test_what_is_measured(finetuning):
    R = np.array(finetuning.accuracy, dtype=float)
    assert R.shape == (2, 2)
    assert np.isnan(R[0, 1])  # experiences that were not trained yet are not evaluated
    assert final_accuracy(R) == finetuning.final_accuracy
    assert forgetting(R) == finetuning.forgetting
    assert finetuning.train_seconds > finetuning.consolidation_seconds >= 0.0
    assert finetuning.memory_bytes == 0
    assert len(finetuning.weights_sha256) == 64


@pytest.mark.parametrize("benchmark", ["permuted", "split"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_both_benchmarks(method, benchmark):
    lam = 1e-2 if bool(METHODS[method].plugin) else None
    result = run_cell(replace(FINETUNING, benchmark=benchmark, method=method, lam=lam))
    chance = 0.1 if benchmark == "permuted" else 0.2
    assert result.final_accuracy > 2 * chance
    keeps_nothing = METHODS[method].plugin is None or method == "LwF"  # but during a task
    assert (result.memory_bytes == 0) == keeps_nothing
    joint = method == "joint"
    assert len(result.accuracy) == (1 if joint else 2)
    assert (result.forgetting is None) == joint


def test_lambda_reaches_our_method(finetuning):
    weights = {
        run_cell(replace(FINETUNING, method="MAS", lam=lam)).weights_sha256 for lam in (0.0, 1.0)
    }
    assert len(weights) == 2
    assert finetuning.weights_sha256 in weights  # λ = 0
