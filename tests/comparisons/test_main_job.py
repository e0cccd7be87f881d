"""The first command of a newcomer: λ of the table, the methods asked for, something to see soon."""

import csv
from dataclasses import replace

import pytest
from made_up import as_claimed
from rich.console import Console
from run_counted import TRAINING, working
from run_counted import cell as counted
from typer.testing import CliRunner

from avalanche_mas.plugins.registry import METHODS
from benchmarks.cli import app
from benchmarks.digits.cell import DigitsCell
from benchmarks.digits.chosen import TABLE, chosen_lambdas
from benchmarks.experiments import digits, figure5, load, table1
from benchmarks.runs.executors.local import LocalExecutor
from benchmarks.runs.store import CellStore, read_cells, write_cells
from benchmarks.training.result import StreamResult

WIDE = {"COLUMNS": "200"}


def made_up(cell, experiences=2):
    """A run in whose place no network is trained."""
    rows = [[0.5] * i + [0.9] + [None] * (experiences - 1 - i) for i in range(experiences)]
    return StreamResult(rows, 0.7, 0.4, 1.0, 0.0, 0, f"{cell.method}{cell.seed}")


def planned(*options):
    words = ["run", "digits", "--fast", "--dry-run", "--out", "nowhere", *options]
    answer = CliRunner().invoke(app, words, env=WIDE)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_lambdas_are_those_of_the_committed_table():
    table = chosen_lambdas()
    with TABLE.open(encoding="utf-8") as file:
        for run in csv.DictReader(file):
            key = run["benchmark"], run["method"]
            assert table.get(key) == (float(run["lambda"]) if run["lambda"] else None)
    protecting = {name for name, method in METHODS.items() if method.plugin}
    assert table.keys() == {(b, m) for b in ("permuted", "split") for m in protecting}
    plan = planned("--methods", "MAS")
    for benchmark in ("permuted", "split"):
        assert f"{benchmark}-test-MAS-{table[benchmark, 'MAS']:g}-seed0" in plan
    assert "selection" not in plan
    assert "permuted-selection-MAS-0.1-seed100" in planned("--methods", "MAS", "--select", "grid")


def test_only_the_methods_that_are_named_are_run():
    plan = planned("--methods", "EWC, MAS")
    assert "4 to run" in plan
    assert plan.index("permuted-test-MAS") < plan.index("permuted-test-EWC")  # as in all tables
    assert f"{2 * len(METHODS)} to run" in planned("--methods", "all")
    wrong = CliRunner().invoke(app, ["run", "digits", "--methods", "EWCC"], env=WIDE)
    assert wrong.exit_code == 2
    assert "Did you mean 'EWC'?" in wrong.output
    wrong = CliRunner().invoke(app, ["run", "table3", "--methods", "MAS"], env=WIDE)
    assert "'table3' has no option --methods" in wrong.output


@pytest.mark.parametrize("methods", [("EWC",), ("MAS", "finetuning"), digits.SETTINGS.methods])
def test_fewer_methods_make_a_report_too(tmp_path, methods):
    settings = replace(digits.FAST, methods=methods)
    report = digits.run(settings, lambda title, cells: {cell: made_up(cell) for cell in cells})
    assert set(report.data()["method"]) == set(methods)
    assert len(list(report.parts(""))) == 4
    assert report.draw(tmp_path)[0].stat().st_size > 5000
    compared = [remark for remark in report.remarks if "forgets less" in remark]
    assert len(compared) == (2 if "finetuning" in methods else 0)


@pytest.mark.parametrize("name", ["figure5", "figure6", "table2"])
def test_fewer_methods_make_a_report_of_objects_too(tmp_path, name):
    module = load(name)
    settings = replace(module.SETTINGS, methods=("MAS",), seeds=(0, 1))
    report = module.run(settings, lambda title, cells: {cell: as_claimed(cell) for cell in cells})
    assert len(report.write(tmp_path, Console(quiet=True), "")) >= 2


def test_methods_are_compared_in_a_fresh_clone_by_the_runs_that_are_committed(tmp_path):
    """Others need not have been run."""
    words = ["compare", "figure5", "MAS", "SI", "--out", str(tmp_path)]
    answer = CliRunner().invoke(app, words, env=WIDE)
    assert answer.exit_code == 0, answer.output
    assert "eight tasks: MAS beside SI" in answer.output
    wrong = CliRunner().invoke(app, [*words, "EWCC"], env=WIDE)
    assert wrong.exit_code == 2
    assert "EWCC" in wrong.output


def test_a_line_for_each_run_where_there_is_no_terminal(log, store, capsys):
    with working(LocalExecutor(1), store) as run:
        run("part", [counted("a"), counted("b", 1)])
        assert run.ran == 2
        run("part", [counted("a"), counted("b", 1)])
        assert run.ran == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("part: 1 of 2 (permuted-test-a-1-seed0, ")
    assert second.startswith("part: 2 of 2 (permuted-test-b-1-seed1, ")


def test_the_first_seed_is_seen_before_the_others_are_run(tmp_path):
    words = ["run", "digits", "--fast", "--seeds", "2", "--methods", "finetuning", "--workers", "2"]
    answer = CliRunner().invoke(app, [*words, "--out", str(tmp_path)], env={"COLUMNS": "300"})
    assert answer.exit_code == 0, answer.output
    picture = tmp_path / "digits-fast" / "digits-fast.png"
    look = answer.output.index(f"A first look, at seed 0 alone: {picture}")
    order = [answer.output.index(f"permuted-test-finetuning-seed{seed}") for seed in (0, 1)]
    assert order[0] < look < order[1]
    again = CliRunner().invoke(app, [*words, "--out", str(tmp_path)], env=WIDE)
    assert "first look" not in again.output  # nothing was run


def cell(method, seed=0):
    return DigitsCell("permuted", 2, method, None, seed, 0.0, TRAINING)


def test_published_runs_are_found_but_one_s_own_come_first(tmp_path):
    file = tmp_path / "published" / "cells.jsonl"
    own = CellStore(tmp_path / "own", {}, StreamResult, file)
    assert own.find(cell("MAS")) is None
    maker = CellStore(tmp_path / "made", {}, StreamResult)
    maker.save(cell("MAS"), made_up(cell("MAS", 7)), origin="elsewhere")
    write_cells(file, {cell("MAS").name: maker.content(cell("MAS"))})
    fresh = CellStore(tmp_path / "own", {}, StreamResult, file)
    assert fresh.find(cell("MAS")) == made_up(cell("MAS", 7))
    assert fresh.load(cell("MAS")) is None  # `run` makes its own
    assert fresh.origin() == "Made with elsewhere."
    fresh.save(cell("MAS"), made_up(cell("MAS", 8)))
    assert fresh.find(cell("MAS")) == made_up(cell("MAS", 8))


def test_what_is_published_is_reported_and_compared_in_a_fresh_clone(tmp_path, monkeypatch):
    for module in ("experiment", "publishing"):
        monkeypatch.setattr(f"benchmarks.cli.{module}.RESULTS", tmp_path / "published")
    mine, fresh = tmp_path / "mine", tmp_path / "fresh"
    settings = replace(digits.SETTINGS, methods=("finetuning", "MAS"), seeds=(0, 1))
    store = CellStore(mine / "digits", {}, StreamResult)

    def run(title, cells):
        results = {cell: made_up(cell) for cell in cells}
        for cell, result in results.items():
            store.save(cell, result, 1.0)
        return results

    digits.run(settings, run)
    words = ["digits", "--methods", "finetuning,MAS", "--seeds", "2", "--out"]
    answer = CliRunner().invoke(app, ["publish", *words, str(mine)], env=WIDE)
    assert answer.exit_code == 0, answer.output
    published = tmp_path / "published" / "digits"
    names = {"table.md", "table.csv", "digits.png", "cells.jsonl"}
    assert {path.name for path in published.iterdir()} == names
    assert len(read_cells(published / "cells.jsonl")) == 8
    answer = CliRunner().invoke(app, ["report", *words, str(fresh)], env=WIDE)
    assert answer.exit_code == 0, answer.output
    assert (fresh / "digits/table.md").read_bytes() == (published / "table.md").read_bytes()
    compare = ["compare", words[0], "MAS", "finetuning", *words[1:], str(fresh)]
    assert "better" in CliRunner().invoke(app, compare, env=WIDE).output
    plan = CliRunner().invoke(app, ["run", "--dry-run", *words, str(fresh)], env=WIDE)
    assert "8 to run" in plan.output


def test_published_runs_of_some_methods_stay_when_another_experiment_is_published(
    tmp_path, monkeypatch
):
    """Figure 5 was run with two methods; table 1, whose runs lie in the same file, comes after."""
    for module in ("experiment", "publishing"):
        monkeypatch.setattr(f"benchmarks.cli.{module}.RESULTS", tmp_path / "published")
    store = CellStore(tmp_path / "mine" / "objects", {}, StreamResult)

    def run(title, cells):
        results = {cell: made_up(cell, len(cell.tasks)) for cell in cells}
        for cell, result in results.items():
            store.save(cell, result, 1.0)
        return results

    published = []
    for module, name in (figure5, "figure5"), (table1, "table1"):
        module.run(replace(module.SETTINGS, methods=("finetuning", "MAS"), seeds=(0, 1)), run)
        words = [name, "--methods", "finetuning,MAS", "--seeds", "2", "--out"]
        answer = CliRunner().invoke(app, ["publish", *words, str(tmp_path / "mine")], env=WIDE)
        assert answer.exit_code == 0, answer.output
        published.append(read_cells(tmp_path / "published" / "objects" / "cells.jsonl").keys())
    before, after = published
    assert any(run.startswith("8tasks-test-finetuning") for run in before)
    assert before < after
