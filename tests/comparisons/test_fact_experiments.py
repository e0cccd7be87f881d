"""Tables 3 and 4 and Figure 7 from start to end, in miniature."""

import signal
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.experiments import figure7, table3, table4
from benchmarks.facts.cell import FactResult
from benchmarks.facts.experiment import run_rows
from benchmarks.facts.training import run_cell

CONSOLE = Console(quiet=True)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def in_this_process(title, cells):
    return {cell: run_cell(cell) for cell in cells}


@pytest.mark.parametrize("experiment", [table3, figure7])
def test_a_trial(tmp_path, experiment):
    report = experiment.run(experiment.FAST, in_this_process)
    files = report.write(tmp_path / "trial", CONSOLE, "Made by a test.")
    text = files[0].read_text(encoding="utf-8")
    for row in experiment.ROWS:
        assert f"| {row.label} |" in text
    assert "Made by a test." in text
    assert all(file.stat().st_size > 100 for file in files)
    numbers = pd.read_csv(files[1])
    assert set(numbers["method"]) == {row.label for row in experiment.ROWS}
    joint = numbers[numbers["method"] == "joint"]
    assert set(joint["after_task"]) == {"all together"}


@pytest.fixture
def command_line():
    """Runs a command here, which must not go on catching the signals of whoever runs the tests."""
    before = signal.getsignal(signal.SIGTERM)

    def invoke(*arguments, exit_code=0):
        result = CliRunner().invoke(app, arguments)
        signal.signal(signal.SIGTERM, before)
        assert result.exit_code == exit_code, f"{result.output}\n{result.exception!r}"
        return " ".join(result.output.split())

    return invoke


def test_run_resume_and_report(tmp_path, command_line):
    arguments = ["table4", "--fast", "--out", str(tmp_path)]
    cells, folder = tmp_path / "facts-fast", tmp_path / "table4-fast"
    refused = command_line("report", *arguments, exit_code=1)
    assert "4 of 4 runs of the part 'choosing λ'" in refused
    command = ["run", *arguments, "--workers", "1"]
    command_line(*command)
    files = {file: file.stat().st_mtime_ns for file in cells.glob("*.json")}
    assert len(files) == 9  # two λ of SI and of MAS, and five rows
    table = (folder / "table.md").read_text(encoding="utf-8")
    victim = min(files)
    victim.unlink()
    (folder / "table.md").unlink()
    command_line(*command)
    again = {file: file.stat().st_mtime_ns for file in cells.glob("*.json")}
    assert {file for file, when in again.items() if files[file] != when} == {victim}
    command_line("report", *arguments)
    assert (folder / "table.md").read_text(encoding="utf-8") == table


def made_up(first, last):
    """A run in which the first task went from one precision to another."""
    ends = [[first, 0.5, 0.5, 0.5]] * 3 + [[last, 0.5, 0.5, 0.5]]
    return FactResult(ends, [0.25] * 4, [first, first, first, last], 1.0, 0, "")


def test_differences_from_the_paper():
    settings = replace(table4.SETTINGS, seeds=(0, 1), lambdas=(1.0,))
    kept = {"finetuning": (0.1, 0.3), "SI": (0.3, 0.3), "MAS": (0.5, 0.7)}

    def look_up(title, cells):
        return {c: made_up(0.8, kept.get(c.label, (0.4, 0.4))[c.seed % 2]) for c in cells}

    report = table4.run(settings, look_up)
    frame = report.panels[0].frame({}).set_index("method")
    assert frame.loc["finetuning", "T1"] == "0.20 ± 0.14"
    assert list(frame.loc["· paper", "T1"]) == ["0.19", "0.36", "0.42", "0.43"]
    assert list(frame.loc["· difference", "T1"]) == ["+0.01", "-0.06", "+0.18", "-0.03"]
    assert list(frame.loc["· paper"].iloc[-1])[1:] == ["0.43", "0.37", "0.46", "0.66", "0.3"]
    said = "\n".join(report.remarks)
    assert "finetuning, first task: 0.800 to 0.100, -88 % (seed 0)" in said
    assert "SI, first task" in said
    assert "more than finetuning on 1 of 2 seeds" in said
    assert "more than finetuning on 2 of 2 seeds" in said


def test_lambda_is_chosen_on_validation_pictures_by_the_mean_over_tasks(tmp_path):
    settings = replace(table4.SETTINGS, lambdas=(1.0, 10.0, 100.0))
    settings = replace(settings, split="random-2")
    asked = []

    def look_up(title, cells):
        cells = list(cells)
        asked.append(cells)
        scores = {("SI", 1.0): 0.9, ("MAS", 10.0): 0.8}
        return {c: made_up(0.5, scores.get((c.label, c.lam), 0.5)) for c in cells}

    assert run_rows(settings, look_up).lambdas == {
        "SI": "1",
        "MAS": "5",
        "MAS, train and test": "5",
        "MAS, λ chosen": "10",
    }
    judged, wider, tested = asked
    assert {c.lam for c in wider} == {0.1}  # of SI, whose best was at the edge
    assert {c.validation for c in judged} == {0.25}
    assert {c.split for c in judged} == {"random-4"}
    assert not {c.seed for c in judged} & {c.seed for c in tested}
    assert {c.lam for c in tested if c.row.method == "MAS"} == {5.0, 10.0}
    given = replace(settings, given=(("MAS", 5.0), ("LocalMAS", 5.0)))
    report = table4.run(given, look_up)
    assert report.findings.lambdas == {"SI": "1", "MAS": "5", "MAS, train and test": "5"}
    report.write(tmp_path, CONSOLE, "Made by a test.")
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert (
        "λ: 5, the paper's, for MAS; MAS, train and test; otherwise the one of 1, 10, 100 (extended"
        in text
    )


def test_figure_7_compares_the_adapted_network():
    ends = {"MAS": 0.4, "MAS, sports only": 0.6}

    def look_up(title, cells):
        return {
            c: replace(made_up(0.8 if c.seed else 0.3, ends.get(c.label, 0.2)), silent=[0.25, 0.5])
            for c in cells
        }

    report = figure7.run(replace(figure7.SETTINGS, seeds=(0, 1, 2)), look_up)
    assert "+0.200 (seed 1), +0.200 (seed 2); better on 2 of 2 seeds" in report.remarks[0]
    assert "MAS, sports only minus SI: +0.400 (seed 1)" in report.remarks[2]
    assert "25 % after the first task and 50 % in the end (MAS, sports only)" in report.remarks[3]
    frame = report.panels[0].frame({}).set_index("method")
    assert frame.loc["MAS", "after T4"] == "0.40 ± 0.00"
    assert list(frame.loc["· difference", "after T4"]) == ["+0.00", "+0.00", "+0.10"]
    (sentence,) = report.findings.left_out
    assert sentence.startswith("Seed 0 is left out of the table, for all methods")
