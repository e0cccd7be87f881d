import json
from dataclasses import replace

import commands
import pytest

from benchmarks.digits.cell import DigitsTraining
from benchmarks.digits.remarks import accuracy_gap, first_experience_kept
from benchmarks.experiments import steps
from benchmarks.experiments.steps import FAST, SETTINGS, OptimizerCell, run_cell
from benchmarks.runs.store import CellStore
from benchmarks.training.result import StreamResult

TRAINING = DigitsTraining(
    hidden_units=20, learning_rate=0.05, momentum=0.9, batch_size=32, epochs=1
)
SGD = OptimizerCell("permuted", 3, "gradient", 1e8, 0, 0.0, TRAINING, "SGD")


def test_a_trial_runs_from_start_to_end(tmp_path):
    process = commands.run(
        *("-m", "benchmarks", "run", "steps", "--fast", "--workers", 1, "--out", tmp_path)
    )
    assert process.returncode == 0, process.stdout + process.stderr
    folder = tmp_path / "steps-fast"
    table = (folder / "table.md").read_text(encoding="utf-8")
    rows = [(optimizer, step) for optimizer in FAST.optimizers for step in optimizer.steps]
    for optimizer, step in rows:
        assert f"| {optimizer.name}-{optimizer.learning_rate:g}-{step} |" in table
    assert "proximal minus SGD-0.05-gradient" in table
    assert "accuracy on experience 1 goes from" in table
    results = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    assert len(results) == len(rows) * (len(FAST.lambdas) + 2)  # a test and a control
    diverged = {
        (found["cell"]["optimizer"], found["cell"]["method"])
        for found in results
        if found["result"]["diverged"]
    }
    assert diverged == {("SGD", "gradient")}
    assert (folder / "steps-fast.png").stat().st_size > 10_000


def test_a_run_that_diverges_is_scored_as_it_is_and_kept(tmp_path):
    result = run_cell(SGD)
    assert result.diverged
    first, *rest = result.accuracy
    assert first[0] > 0.5
    assert len(rest) == 2  # as if it had been trained on: a row for each experience
    for row in rest:
        assert max(entry for entry in row if entry is not None) < 0.2  # chance
    assert result.forgetting > 0.2
    store = CellStore(tmp_path, {}, StreamResult)
    store.save(SGD, result)
    assert store.load(SGD) == result
    assert not run_cell(replace(SGD, method="proximal")).diverged


def test_other_errors_are_not_taken_for_divergence(monkeypatch):
    def fail(*_, **__):
        raise ValueError("something else")

    monkeypatch.setattr("avalanche_mas.MASPlugin.measure", fail)
    with pytest.raises(ValueError, match="something else"):
        run_cell(SGD)


def test_optimizer_learning_rate_and_step_reach_the_training():
    cell = replace(SGD, n_experiences=2, lam=1.0)
    slow = replace(TRAINING, learning_rate=1e-3, momentum=0.0)
    others = [
        replace(cell, method="proximal"),
        replace(cell, optimizer="RMSprop", training=slow),
        replace(cell, optimizer="Adam", training=slow),
        replace(cell, optimizer="Adam", training=replace(slow, learning_rate=1e-2)),
        replace(cell, training=replace(TRAINING, momentum=0.0)),
    ]
    cells = [cell, *others]
    assert len({c.name for c in cells}) == len(cells)
    assert len({run_cell(c).weights_sha256 for c in cells}) == len(cells)


def test_every_row_has_its_own_line():
    assert len(SETTINGS.optimizers) == len(steps._COLORS)


def row(method, accuracies, before=0.9):
    return {
        replace(SGD, method=method, seed=seed): StreamResult(
            [[before, None], [after, after]], after, before - after, 1.0, 0.0, 0, "w"
        )
        for seed, after in enumerate(accuracies)
    }


def test_gap_is_told_in_points_and_in_deviations():
    near = (row("proximal", [0.50, 0.52]), row("gradient", [0.49, 0.51]))
    far = (row("gradient", [0.50, 0.52]), row("proximal", [0.30, 0.32]))
    sentences = accuracy_gap([near, far])
    # Both rows' standard deviation is √2 points.
    assert "+1.0 points of final accuracy, 0.7 standard deviations" in sentences[0]
    assert "+20.0 points of final accuracy, 14.1 standard deviations" in sentences[1]
    assert "14.1: SGD-0.05-gradient minus SGD-0.05-proximal" in sentences[2]
    (alone,) = accuracy_gap([(row("proximal", [0.5]), row("gradient", [0.6]))])
    assert alone.endswith("-10.0 points of final accuracy.")


def test_the_first_experience_is_kept_or_not():
    results = {**row("proximal", [0.9, 0.88, 0.7]), **row("gradient", [0.1])}
    kept, lost = first_experience_kept(results, tolerance=0.05)
    assert "from 90.0 to 82.7 %; kept within 5 points on 2 of 3 seeds, diverged on 0" in kept
    assert "SGD-0.05-gradient" in lost
    assert "on 0 of 1 seeds" in lost
