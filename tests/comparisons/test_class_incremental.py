"""The experiment on one head with a replay memory, from start to end."""

from dataclasses import replace

import commands
import pandas as pd
import pytest
import torch

from avalanche_mas.benchmarks import split_digits
from benchmarks.experiments import class_incremental_objects as objects
from benchmarks.experiments.class_incremental import FAST, ReplayDigitsCell, run_cell
from benchmarks.replay.report import ReplayReport
from benchmarks.training.result import StreamResult
from benchmarks.training.selection import Choice

CELL = ReplayDigitsCell("class-incremental", 5, "finetuning", None, 0, 0.0, FAST.training, 0)


def test_a_trial_runs_from_start_to_end(tmp_path):
    words = ["run", "class-incremental", "--fast", "--workers", 1, "--out", tmp_path]
    process = commands.run("-m", "benchmarks", *words)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "Warning" not in process.stderr
    folder = tmp_path / "class-incremental-fast"
    runs = pd.read_csv(folder / "table.csv")
    assert len(runs) == len(FAST.memories) * len(FAST.methods)
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert "| replay and LwF | 20 |" in table
    assert "MAS beside a memory, against the memory alone: not decided with 0, 20" in table
    assert (folder / "class-incremental-fast.png").stat().st_size > 10_000


def test_labels_count_on_and_tasks_are_not_told():
    heads, one = split_digits(5, seed=3), split_digits(5, seed=3, one_head=True)
    for i, (of_head, of_one) in enumerate(zip(heads.train_stream, one.train_stream, strict=True)):
        x, y, task = zip(*of_one.dataset, strict=True)
        images, labels, _ = zip(*of_head.dataset, strict=True)
        assert torch.equal(torch.stack(x), torch.stack(images))
        assert [label - 2 * i for label in y] == list(labels)
        assert set(task) == {0}
        assert set(y) == {2 * i, 2 * i + 1}


def test_a_memory_is_what_helps():
    finals = [run_cell(replace(CELL, memory=memory)).final_accuracy for memory in (0, 200)]
    assert finals[0] < 0.3
    assert finals[1] > finals[0] + 0.3


def test_all_tasks_share_the_head_of_the_objects(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (sequence,) = objects.FAST.sequences
    cell = objects.FAST.cell(sequence, "finetuning", None, 0)
    cell = objects.ReplayObjectCell(**{**vars(cell), "memory": 20})
    cell = replace(cell, training=replace(cell.training, epochs=20))
    remembered, forgotten = objects.run_cell(cell), objects.run_cell(replace(cell, memory=0))
    assert remembered.accuracy[0] == forgotten.accuracy[0]
    assert forgotten.accuracy[1][0] == 0.0  # its classes are never answered again
    assert remembered.accuracy[1][0] > 0.1


def result(final):
    return StreamResult([[final]], final, 0.0, 0.0, 0.0, 0, "")


@pytest.mark.parametrize(
    ("gain", "word"), [(0.02, "better"), (-0.02, "worse"), (0.0, "not decided")]
)
def test_verdicts_compare_seed_by_seed(gain, word):
    tests = {}
    for seed in range(6):
        alone = 0.5 + seed / 10  # seeds differ far more than methods
        cell = replace(CELL, seed=seed, memory=50)
        tests[cell] = result(alone)
        mas = alone + gain + 0.001 * (-1) ** seed
        tests[replace(cell, method="MAS", lam=1.0)] = result(mas)
    report = ReplayReport(tests, {(50, "MAS"): Choice(1.0)})
    (row,) = [r for r in report.summary().to_dict("records") if r["method"] == "replay and MAS"]
    assert row["verdict"] == word
    assert row["λ"] == "1"
    *_, remarks = report.parts("origin")
    assert remarks[0].startswith(f"MAS beside a memory, against the memory alone: {word} with 50")
