"""λ and learning rate chosen along the way: ``run digits --select framework``."""

from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from avalanche_mas.plugins.registry import METHODS
from benchmarks.cli import app
from benchmarks.digits.cell import DigitsCell
from benchmarks.digits.framework import FrameworkCell
from benchmarks.experiments import digits
from benchmarks.experiments.digits import FAST, run_cell
from benchmarks.training.framework import Framework

FRAMEWORK = Framework(learning_rates=(0.02, 0.1), strength=1e4, max_trials=3, decay=1e-2)
SHOWN = ("finetuning", "joint", "MAS")
PERMUTED = DigitsCell("permuted", 3, "MAS", None, 0, 0.0, replace(FAST.training, epochs=1))
MAS = FrameworkCell(**vars(PERMUTED), framework=FRAMEWORK)


@pytest.fixture(scope="module")
def result():
    return run_cell(MAS)


def test_each_search_begins_where_the_last_one_ended(result):
    assert len(result.found) == 3
    begin = FRAMEWORK.strength
    for found in result.found:
        finetuned, tried = found["trials"][:2], found["trials"][2:]
        assert [trial["learning_rate"] for trial in finetuned] == [0.02, 0.1]
        assert [t["strength"] for t in tried] == [begin * 0.01**k for k in range(len(tried))]
        assert found["strength"] == tried[-1]["strength"]
        begin = found["strength"]
    assert begin < FRAMEWORK.strength


def test_the_result_is_that_of_the_network_that_was_taken(result):
    """On test images; those to judge by are not learnt, and no accuracy is of one of them."""
    accuracies = [entry for row in result.accuracy for entry in row if entry is not None]
    assert len(accuracies) == 6
    for accuracy in accuracies:
        assert 500 * accuracy == pytest.approx(round(500 * accuracy), abs=1e-6)
    for found in result.found:
        assert 260 * found["accuracy"] == pytest.approx(round(260 * found["accuracy"]), abs=1e-6)
    assert result.forgetting is not None
    assert result.train_seconds > result.consolidation_seconds > 0
    assert run_cell(MAS).weights_sha256 == result.weights_sha256


def test_a_cell_that_diverges_is_still_scored():
    framework = replace(FRAMEWORK, learning_rates=(1e30,))
    result = run_cell(replace(MAS, n_experiences=2, framework=framework))
    assert result.diverged
    assert result.found == []
    assert len(result.accuracy) == 2


def run_some(title, cells):
    """Carry out the runs of three methods, each on one benchmark at a time."""
    assert title == "test"
    return {cell: run_cell(cell) for cell in cells if cell.method in SHOWN}


def test_the_report_says_which_were_taken(tmp_path):
    settings = FAST.configure(select="framework")
    outcome = digits.run(settings, run_some)
    files = outcome.write(tmp_path, Console(quiet=True), "")
    assert all(file.exists() for file in files)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| MAS | below |" in text
    assert "| finetuning | - |" in text
    assert "split digits: λ of each experience" in text
    chosen = pd.read_csv(tmp_path / "hyperparameters.csv")
    assert len(chosen) == 2 * 2 * 2  # benchmarks, experiences, methods but joint training
    assert (chosen["learning_rate"] == 0.05).all()
    ours = chosen[chosen["method"] == "MAS"]
    assert set(ours["lambda"]) <= {1e4, 1.0}
    assert chosen[chosen["method"] == "finetuning"]["lambda"].isna().all()
    cells = outcome.tests
    trials = sum(len(found["trials"]) for run in cells.values() for found in run.found)
    assert trials == chosen["trials"].sum()
    assert f"{trials} trainings for 8 experiences" in text


def test_the_command_line(tmp_path):
    """Every way has a folder of its own; what cannot choose λ so says that it cannot."""

    def ask(*arguments):
        return CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)], env={"COLUMNS": "200"})

    plan = ask("run", "digits", "--fast", "--select", "framework", "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "permuted-framework-MAS-seed0" in plan.output
    assert "permuted-test-joint-seed0" in plan.output
    plan = ask("run", "digits", "--fast", "--select", "published", "--dry-run")
    for method, strength in (("MAS", 1), ("EWC", 800), ("AvalancheEWC", 400)):
        assert f"permuted-test-{method}-{strength}-seed0" in plan.output
    plan = ask("run", "digits", "--fast", "--select", "grid", "--dry-run")
    assert "permuted-selection-MAS-0.1-seed100" in plan.output
    for select in ("framework", "published"):
        report = ask("report", "digits", "--fast", "--select", select)
        assert report.exit_code == 1
        assert f"digits-{select}-fast" in report.output.replace("\n", "")  # which is wrapped
        assert f"of {2 * len(METHODS)} runs" in " ".join(report.output.split())
    refused = ask("run", "table1", "--select", "framework")
    assert refused.exit_code == 1
    assert "give grid or published" in " ".join(refused.output.split())
    refused = ask("run", "deployment", "--select", "framework")
    assert refused.exit_code == 2
    assert "has no option --select" in " ".join(refused.output.split())
