"""The object recognition experiments from the command line, on a tiny miniature."""

import json
import os
import shutil

import pytest
from typer.testing import CliRunner

from avalanche_mas.miniature.objects import miniature
from benchmarks.cli import app
from benchmarks.experiments import load

NAMES = ("figure5", "figure6", "table1", "table2", "l2-vs-vector", "adaptation")
NAMES += ("class-incremental-objects",)
ROWS = {
    "figure5": ("| AvalancheMAS |", "| joint |", "MAS forgets", "Are these real tasks?"),
    "figure6": ("| modeIMM |", "in units of that at the first", "recorded outputs"),
    "table1": (
        "| meanIMM |",
        "Flowers→Scenes",
        "the paper's, on the real images",
        "77.2 (-0.8) / 57.4",
    ),
    "table2": ("| LocalMAS, train + test |", "in the paper about 3 %"),
    "l2-vs-vector": ("| vector |", "0.47 ± 0.12", "Measuring Ω takes", "makes ΣΩ of the"),
    "adaptation": ("| passion flower | anew |", "| rose | summed |", "Krishna Kamal"),
    "class-incremental-objects": ("| replay and LwF | 10 |", "MAS beside a memory"),
}


def call(command, name, out, *options):
    arguments = [command, name, "--fast", "--out", str(out), *map(str, options)]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A results folder; drawn images are kept beside it, not in the user's cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield tmp_path_factory.mktemp("results")
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="module", params=NAMES)
def finished(request, out):
    """Run one of them: its name, and what came of it."""
    return request.param, call("run", request.param, out, "--jobs", 1)


@pytest.fixture(scope="module")
def table1(out):
    """Run this one, if it has not been run yet."""
    assert call("run", "table1", out, "--jobs", 1).exit_code == 0


def test_an_experiment_runs_from_start_to_end(finished, out):
    name, answer = finished
    assert answer.exit_code == 0, answer.output
    folder = out / f"{name}-fast"
    table = (folder / "table.md").read_text(encoding="utf-8")
    for part in ROWS[name]:
        assert part in table
    assert (folder / "table.csv").exists()
    if name.startswith("figure"):
        assert (folder / f"{name}-fast.png").stat().st_size > 10_000


def test_equal_runs_are_shared(table1, out):
    cells = [json.loads(file.read_text()) for file in (out / "objects-fast").glob("*.json")]
    assert {load(name).SETTINGS.cells for name in NAMES} == {"objects"}
    unique = {json.dumps(cell["cell"]) for cell in cells}
    assert len(unique) == len(cells)
    memory = [c["result"]["memory_after_each"] for c in cells if c["cell"]["method"] == "MAS"]
    assert memory
    assert all(0 < before < after for before, after in memory)  # the second head's


def test_a_report_trains_nothing_and_is_the_same(finished, out, monkeypatch):
    name, _ = finished
    table = (out / f"{name}-fast" / "table.md").read_text(encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")  # images are not needed either
    before = {file: file.stat().st_mtime_ns for file in (out / "objects-fast").glob("*.json")}
    answer = call("report", name, out)
    assert answer.exit_code == 0, answer.output
    assert (out / f"{name}-fast" / "table.md").read_text(encoding="utf-8") == table
    assert {f: f.stat().st_mtime_ns for f in (out / "objects-fast").glob("*.json")} == before


def test_only_what_is_missing_is_run_again(table1, out):
    folder = out / "objects-fast"
    victim = next(folder.glob("flowers-scenes-test-finetuning-*"))
    content = json.loads(victim.read_text())
    victim.unlink()
    others = {file: file.stat().st_mtime_ns for file in folder.glob("*.json")}
    refused = call("report", "table1", out)
    assert refused.exit_code == 1
    assert "1 of" in refused.output
    assert call("run", "table1", out, "--jobs", 1).exit_code == 0
    again = json.loads(victim.read_text())
    assert again["result"]["accuracy"] == content["result"]["accuracy"]
    assert again["result"]["weights_sha256"] == content["result"]["weights_sha256"]
    assert {file: file.stat().st_mtime_ns for file in others} == others


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A miniature that stands in for official data."""
    root = tmp_path_factory.mktemp("official")
    return miniature(root / "data", images_per_class=2, size=24, verbose=False)


def test_official_data_are_told_from_drawn_ones(out, tiny):
    options = ("--data", tiny, "--model", "small")
    refused = call("report", "l2-vs-vector", out, *options)
    assert refused.exit_code == 1  # the drawn images' runs are not mistaken for them
    assert "objects-data-fast" in refused.output.replace("\n", "")


def test_a_folder_that_is_not_there_is_named(out, tmp_path):
    answer = call("run", "figure5", out, "--data", tmp_path / "typo")
    assert answer.exit_code == 1
    assert f"{tmp_path / 'typo'} does not exist" in answer.output.replace("\n", "")
    assert not (out / "objects-data-fast").exists()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("flowers-102/setid.mat", "setid.mat"),
        ("flowers-102/jpg/image_00001.jpg", "1 are missing"),
        ("scenes-67/TrainImages.txt", "TrainImages.txt"),
    ],
)
def test_broken_data_are_found_before_training(out, tiny, tmp_path, broken, message):
    root = tmp_path / "data"
    shutil.copytree(tiny, root)
    (root / broken).unlink()
    answer = call("run", "table1", out, "--data", root)
    assert answer.exit_code == 1
    assert message in answer.output.replace("\n", "")
    assert "Traceback" not in answer.output
    assert not (out / "objects-data-fast").exists()


def test_options_that_make_no_sense_are_refused(out):
    answer = call("run", "figure5", out, "--model", "alexnett")
    assert answer.exit_code == 1
    assert "give pretrained, small, alexnet, or a file" in answer.output
    answer = call("run", "digits", out, "--epochs", 3)
    assert answer.exit_code == 2
    assert "no option --epochs" in answer.output
