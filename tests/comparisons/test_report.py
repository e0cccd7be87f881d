from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from benchmarks.digits.cell import DigitsCell, DigitsTraining
from benchmarks.digits.plot import plot_accuracy
from benchmarks.digits.remarks import forgets_less, lambda_effect
from benchmarks.digits.report import DigitsReport
from benchmarks.training.result import StreamResult
from benchmarks.training.selection import Choice

TRAINING = DigitsTraining(hidden_units=1, learning_rate=0.1, momentum=0.0, batch_size=1, epochs=1)


def cell(method, seed, lam=None):
    return DigitsCell("permuted", 2, method, lam, seed, 0.0, TRAINING)


def result(before, after, weights="w"):
    """A run of two experiences, the first of which falls from one accuracy to another."""
    return StreamResult(
        [[before, None], [after, 1.0]], (after + 1) / 2, before - after, 2.0, 0.5, 1500, weights
    )


@pytest.fixture
def outcome():
    joint = StreamResult([[0.9, 0.9]], 0.9, None, 1.0, 0.0, 0, "w")
    tests = {
        cell("finetuning", 0): result(0.9, 0.3),
        cell("finetuning", 1): result(0.9, 0.5),
        cell("joint", 0): joint,
        cell("joint", 1): joint,
        cell("MAS", 0, 10.0): result(0.9, 0.8),
        cell("MAS", 1, 10.0): result(0.8, 0.3),
    }
    return DigitsReport(tests, {("permuted", "MAS"): Choice(10.0, at_edge=True)}, ["a remark"])


def test_summary(outcome):
    table = outcome.summary("permuted").set_index("method")
    assert list(table.index) == ["finetuning", "joint", "MAS"]
    # 65 and 75: mean 70, standard deviation of the sample √50
    assert table.loc["finetuning", "final accuracy (%)"] == "70.0 ± 7.1"
    assert table.loc["finetuning", "forgetting (points)"] == "50.0 ± 14.1"
    assert table.loc["joint", "forgetting (points)"] == "-"
    assert table.loc["MAS", "λ"] == "10*"
    assert table.loc["MAS", "memory (KB)"] == "1.5"
    assert table.loc["finetuning", "λ"] == "-"


def test_one_seed_has_no_deviation(outcome):
    tests = {cell: run for cell, run in outcome.tests.items() if cell.seed == 0}
    table = replace(outcome, tests=tests).summary("permuted").set_index("method")
    assert table.loc["finetuning", "final accuracy (%)"] == "65.0"


def test_files(outcome, tmp_path):
    console = Console(record=True, width=100)
    outcome.write(tmp_path / "digits", console, "")
    shown = console.export_text()
    saved = (tmp_path / "digits" / "table.md").read_text(encoding="utf-8")
    for text in (shown, saved):
        assert "50.0 ± 14.1" in text
        assert "a remark" in text
        assert "(0, 1)" in text  # the seeds
    runs = pd.read_csv(tmp_path / "digits" / "table.csv")
    assert len(runs) == 6
    assert runs["forgetting_points"].isna().sum() == 2
    assert runs["final_accuracy_percent"].iloc[0] == pytest.approx(65.0)


def test_plot_shows_every_method(outcome, tmp_path):
    path = tmp_path / "picture.png"
    plot_accuracy(outcome.tests, {}, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    fewer = {cell: run for cell, run in outcome.tests.items() if cell.method != "MAS"}
    other = tmp_path / "other.png"
    plot_accuracy(fewer, {}, other)
    assert path.read_bytes() != other.read_bytes()


def test_remark_on_forgetting_counts_seeds(outcome):
    (sentence,) = forgets_less(outcome.tests, "MAS", "finetuning")
    assert "on 1 of 2 seeds" in sentence
    assert "50.0 (seed 0), -10.0 (seed 1)" in sentence


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("aaa", ["identical for λ = 0.01 and λ = 1e+08", "finetuning are identical"]),
        ("aab", ["identical for λ = 0.01 and λ = 1e+08", "finetuning are different"]),
        ("aba", ["different for λ = 0.01 and λ = 1e+08", "finetuning are identical"]),
    ],
)
def test_remark_on_lambda_says_what_was_measured(weights, expected):
    trial = [cell("SI", 100, 0.01), cell("SI", 100, 1e8), cell("finetuning", 100)]
    results = {c: result(0.9, 0.8, w) for c, w in zip(trial, weights, strict=True)}
    sentence = lambda_effect(results, *trial)
    for part in expected:
        assert part in sentence
