import errno
import json
import os
import re
import shutil
import subprocess
import sys

import commands
import pytest
from typer.testing import CliRunner

import avalanche_mas
from avalanche_mas.plugins.registry import METHODS
from benchmarks.cli import app
from benchmarks.runs.runner import WorkerDiedError


def benchmarks(*arguments):
    return commands.run("-m", "benchmarks", *arguments)


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """Run the whole digits experiment in miniature, once for all tests."""
    out = tmp_path_factory.mktemp("results")
    words = ("run", "digits", "--fast", "--select", "grid", "--workers", 1, "--out", out)
    return benchmarks(*words), out / "digits-grid-fast"


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
    assert (folder / "digits-grid-fast.png").stat().st_size > 10_000
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
    process = benchmarks(
        *("run", "digits", "--fast", "--select", "grid", "--out", folder.parent, "--workers", 1)
    )
    assert process.returncode == 0, process.stderr
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*.json")} == before


def test_ray_gives_the_same_numbers(trial, tmp_path):
    """A cluster of its own, in which two cells are run; the others are finished."""
    pytest.importorskip("ray")
    _, before = trial
    after = tmp_path / before.name
    shutil.copytree(before, after)
    victims = [
        next(after.glob(f"{kind}-*.json")) for kind in ("permuted-test-MAS", "split-test-EWC")
    ]
    for victim in victims:
        victim.unlink()
    words = ("run", "digits", "--fast", "--select", "grid", "--out", tmp_path)
    process = benchmarks(*words, "--executor", "ray")
    assert process.returncode == 0, process.stdout + process.stderr
    for victim in victims:
        ray, local = (json.loads((folder / victim.name).read_text()) for folder in (after, before))
        for content in (ray, local):
            assert content.pop("seconds") > 0
            for key in ("train_seconds", "consolidation_seconds"):
                assert content["result"].pop(key) > 0
        assert ray == local
    assert sorted(path.name for path in after.iterdir()) == sorted(
        path.name for path in before.iterdir()
    )


def test_a_dry_run_shows_what_is_left(trial, tmp_path):
    _, folder = trial
    arguments = ["run", "digits", "--fast", "--select", "grid", "--dry-run", "--out"]
    done = CliRunner().invoke(app, [*arguments, str(folder.parent)], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "nothing would be run" in done.output
    assert "to run" not in done.output
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    begun = tmp_path / folder.name
    shutil.copytree(folder, begun)
    for file in begun.glob("split-selection-*-seed100-*.json"):
        file.unlink()
    part = CliRunner().invoke(app, [*arguments, str(tmp_path)], env={"COLUMNS": "200"})
    assert part.exit_code == 0
    assert "Part 'choosing λ'" in part.output
    assert "Part 'test'" not in part.output  # who knows which λ
    left = part.output.count("to run") - 1
    assert f"Part 'choosing λ': {left} to run." in part.output
    assert part.output.index("to run.") < part.output.index("split-selection")  # totals first
    assert left == len([*folder.glob("split-selection-*-seed100-*.json")]) > 20
    assert "if anything, depends on its results" in part.output
    nothing = CliRunner().invoke(app, [*arguments, str(tmp_path / "new")])
    assert "what the experiment says of itself" in " ".join(nothing.output.split())
    assert not (tmp_path / "new").exists()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == files


WRONG = {
    "no objects": (["figure5", "--data", "does-not-exist"], "does-not-exist does not exist"),
    "no dataset": (["table1", "--data", "empty"], "is not complete|does not exist. Missing"),
    "no facts": (["table3", "--data", "does-not-exist"], "does-not-exist is not a folder"),
    "other facts": (["figure7", "--data", "empty"], "has neither 4tasks_random"),
    "no weights": (["figure5", "--model", "none.pt"], "--model is 'none.pt'"),
    "no weights of facts": (["table4", "--model", "none.pt"], "none.pt"),
    "a file": (["digits", "--out", "file"], "file is a file: name a folder .* with --out"),
    "below a file": (["digits", "--out", "file/x/y"], "file is a file: name a folder"),
    "another executor's": (["digits", "--cpus-per-cell", "2"], "needs --executor ray"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry run", "run"])
def test_a_dry_run_finds_what_a_run_would(tmp_path, monkeypatch, words, said, dry):
    """One line and an exit code; nothing is made."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, ["run", *words, *dry], env={"COLUMNS": "300"})
    assert answer.exit_code == 1, answer.output
    assert isinstance(answer.exception, SystemExit)
    assert re.search(said, answer.output)
    assert sorted(os.listdir()) == ["empty", "file"]


@pytest.mark.parametrize(
    ("experiment", "marker"), [("table1", "miniature.json"), ("table3", "fact_miniature.json")]
)
def test_data_that_are_a_miniature_are_called_so(tmp_path, experiment, marker):
    for there in (False, True):
        if there:
            (tmp_path / marker).touch()
        words = ["run", experiment, "--data", str(tmp_path), "--dry-run"]
        answer = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
        assert ("is a drawn miniature" in " ".join(answer.output.split())) == there


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.cli.experiment.os.access", lambda _, mode: not mode & os.W_OK)
    answer = CliRunner().invoke(app, ["run", "digits", "--out", str(tmp_path)])
    assert answer.exit_code == 1
    assert "may not be written to" in answer.output


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), "No space left on device"),
        (WorkerDiedError("a process that ran cells has died"), "a process that ran cells has died"),
    ],
)
def test_a_full_disk_and_a_dead_worker_are_one_line(tmp_path, monkeypatch, error, said):
    def run(settings, run_cells):
        raise error

    monkeypatch.setattr("benchmarks.experiments.digits.run", run)
    answer = CliRunner().invoke(app, ["run", "digits", "--fast", "--out", str(tmp_path)])
    assert answer.exit_code == 1
    assert isinstance(answer.exception, SystemExit)
    assert len([line for line in answer.output.splitlines() if said in line]) == 1


def test_compare_shows_finished_runs_seed_by_seed(trial, tmp_path):
    _, folder = trial
    arguments = ["compare", "digits", "MAS", "finetuning", "--fast", "--select", "grid", "--out"]
    answer = CliRunner().invoke(app, [*arguments, str(folder.parent)], env={"COLUMNS": "200"})
    assert answer.exit_code == 0, answer.output
    lines = [line.split() for line in answer.output.splitlines()]
    final = {
        method: json.loads(next(folder.glob(f"permuted-test-{method}-*.json")).read_text())
        for method in ("MAS", "finetuning")
    }
    ours, theirs = (100 * final[name]["result"]["final_accuracy"] for name in final)
    seed = next(line for line in lines if line[:2] == ["seed", "0"])
    assert seed[2:] == [f"{ours:.1f}", f"{theirs:.1f}", f"{ours - theirs:+.1f}"]
    unfinished = CliRunner().invoke(app, [*arguments, str(tmp_path)], prog_name="program")
    assert unfinished.exit_code == 1
    assert "Make them with: program run digits" in " ".join(unfinished.output.split())
    misspelt = [word.replace("finetuning", "EWCC") for word in arguments] + [str(folder.parent)]
    answer = CliRunner().invoke(app, misspelt, env={"COLUMNS": "300"})
    assert answer.exit_code == 2
    assert "Did you mean 'EWC'?" in answer.output
    assert "name the methods" in CliRunner().invoke(app, ["compare", "digits", "MAS"]).output


def test_report_needs_all_runs(trial):
    _, folder = trial
    table = (folder / "table.md").read_text(encoding="utf-8")
    arguments = ["report", "digits", "--fast", "--select", "grid", "--out", str(folder.parent)]
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


def test_help_loads_no_large_library():
    code = (
        "import sys; from typer.testing import CliRunner; from benchmarks.cli import app\n"
        "for command in ('', 'run', 'report', 'compare', 'claims', 'publish', 'speed', 'list'):\n"
        "    assert CliRunner().invoke(app, [*command.split(), '--help']).exit_code == 0\n"
        "print(sys.modules.keys() & {'avalanche', 'matplotlib', 'numpy', 'pandas', 'torch'})"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout == "set()\n", process.stdout + process.stderr


def test_without_a_command_it_explains_itself():
    answer = CliRunner().invoke(app, [], prog_name="program", env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    assert "An experiment trains networks" in answer.output
    for command in ("list", "run digits --dry-run", "compare digits MAS EWC"):
        assert f"program {command} " in answer.output


def test_version():
    answer = CliRunner().invoke(app, ["--version"])
    assert answer.exit_code == 0
    assert f"avalanche-mas {avalanche_mas.__version__}" in answer.output
    assert "torch 2" in answer.output


def test_data_hands_over_to_the_commands_of_datasets():
    for words in (["data"], ["data", "--help"]):
        assert "miniature" in CliRunner().invoke(app, words).output
    refused = CliRunner().invoke(app, ["data", "status", "nowhere", "--only", "flower"])
    assert refused.exit_code == 2
    assert "there is no dataset flower" in refused.output


def test_an_unknown_name_gets_help_and_a_suggestion():
    for command in ("run", "report"):
        answer = CliRunner().invoke(app, [command, "digit"])
        assert answer.exit_code == 2
        assert "Did you mean 'digits'?" in answer.output
        assert "--fast" in answer.output
    for far in (["run", "xyzzy"], ["run", "olympics"], ["xyzzy"]):
        answer = CliRunner().invoke(app, far)
        assert "Did you mean" not in answer.output
        assert "No such" in answer.output or "no experiment is called" in answer.output
        assert answer.output.rstrip().endswith("╯")  # the error is the last
    for words, meant in ([["rum", "digits"], "run"], [["run", "digits", "--seed", "2"], "--seeds"]):
        answer = CliRunner().invoke(app, words)
        assert answer.exit_code == 2
        assert meant in answer.output.rpartition("No such")[2]


def test_list_names_everything():
    answer = CliRunner().invoke(app, ["list"], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    for name in ("digits", *METHODS):
        assert name in answer.output
