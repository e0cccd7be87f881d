import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from avalanche_mas.methods import METHODS
from benchmarks.cli import app

SECONDS = 90  # what a trial run may take from a cold start


def benchmarks(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """Run the whole digits experiment in miniature, once for all tests."""
    out = tmp_path_factory.mktemp("results")
    return benchmarks("run", "digits", "--fast", "--out", out), out / "digits-fast"


def test_a_trial_runs_from_start_to_end(trial):
    process, folder = trial
    assert process.returncode == 0, process.stdout + process.stderr
    assert "Warning" not in process.stderr
    table = (folder / "table.md").read_text(encoding="utf-8")
    for method in METHODS:
        assert f"| {method} |" in process.stdout.replace("│", "|") or method in process.stdout
        assert f"| {method} |" in table
    assert "final weights" in table
    assert "forgets less than" in table
    assert (folder / "digits-fast.png").stat().st_size > 10_000
    assert (folder / "table.csv").exists()


def test_each_file_has_every_hyper_parameter(trial):
    _, folder = trial
    files = sorted(folder.glob("*.json"))
    assert len(files) > 2 * len(METHODS)
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        assert content["experiment"]["lambdas"] == [0.1, 10.0]
        assert content["cell"]["training"]["learning_rate"] > 0
        assert content["result"]["weights_sha256"]


def test_a_second_run_trains_nothing(trial):
    _, folder = trial
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*.json")}
    process = benchmarks("run", "digits", "--fast", "--out", folder.parent, "--workers", 1)
    assert process.returncode == 0, process.stderr
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*.json")} == before


def test_report_needs_all_runs(trial):
    _, folder = trial
    table = (folder / "table.md").read_text(encoding="utf-8")
    arguments = ["report", "digits", "--fast", "--out", str(folder.parent)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (folder / "table.md").read_text(encoding="utf-8") == table
    victim = next(folder.glob("split-test-MAS-*.json"))
    content = victim.read_bytes()
    victim.unlink()
    try:
        refused = CliRunner().invoke(app, arguments)
    finally:
        victim.write_bytes(content)
    assert refused.exit_code == 1
    assert f"1 of {2 * len(METHODS)} runs" in " ".join(refused.output.split())


def test_an_unknown_name_gets_help_and_a_suggestion():
    for command in ("run", "report"):
        answer = CliRunner().invoke(app, [command, "digit"])
        assert answer.exit_code == 2
        assert "Did you mean 'digits'?" in answer.output
        assert "--fast" in answer.output
    assert "Did you mean" not in CliRunner().invoke(app, ["run", "xyzzy"]).output


def test_list_names_everything():
    answer = CliRunner().invoke(app, ["list"], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    for name in ("digits", *METHODS):
        assert name in answer.output
