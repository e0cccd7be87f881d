"""Every script in examples/ runs, and compares what it says."""

import json
import runpy
import struct
from pathlib import Path

import commands
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from avalanche_mas.plugins import registry

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = {
    "image_folder": ["finetuning", "joint", "MAS", "EWC", "LwF"],
    "regression": ["finetuning", "joint", "MAS", "SI"],
    "text": ["finetuning", "joint", "MAS", "EWC"],
    "two_inputs": ["finetuning-2", "MAS-2", "EWC-2"],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_and_compares(name, tmp_path, monkeypatch, capsys):
    """Quickly: one seed, one epoch, published λ."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAST_EXAMPLES", "1")
    monkeypatch.syspath_prepend(FOLDER)
    names = set(registry.METHODS)
    try:
        found = runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")["comparison"]
    finally:
        for own in set(registry.METHODS) - names:
            del registry.METHODS[own]
    assert list(found.table()["method"]) == SCRIPTS[name]
    assert found.error == (name == "regression")
    lines = capsys.readouterr().out.splitlines()
    assert all(any(method in line for line in lines) for method in SCRIPTS[name])
    if name == "image_folder":
        assert (tmp_path / "images.png").stat().st_size > 5000


def records(file):
    """What an offline run of wandb holds: LevelDB's log format, after a header of seven bytes."""
    data, place, parts = file.read_bytes(), 7, []
    while place + 7 <= len(data):
        if (rest := 32768 - place % 32768) < 7:  # a block's end, too short for a record
            place += rest
            continue
        size, kind = struct.unpack_from("<HB", data, place + 4)  # after the checksum
        parts.append(data[place + 7 : place + 7 + size])
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def written_for_wandb(file):
    """Name → the last value that was logged."""
    found = {}
    for data in records(file):
        record = Record()
        record.ParseFromString(data)
        for item in record.history.item:
            found[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return found


def test_loggers_write_what_they_should(tmp_path):
    environment = {"FAST_EXAMPLES": "1", "WANDB_MODE": "offline"}
    run = commands.run(FOLDER / "loggers.py", environment=environment, cwd=tmp_path, quiet=True)
    assert run.returncode == 0, run.stderr
    board = EventAccumulator(str(tmp_path / "results" / "logs")).Reload()
    names = {
        "Penalty_Epoch/train_phase/train_stream",
        "Penalty_Share_Epoch/model.features.0/train_phase/train_stream",
        "Free_Parameters/train_phase/train_stream",
        "Method_Memory/train_phase/train_stream",
        "Top1_Acc_Stream/eval_phase/test_stream/Task001",
        "ExperienceForgetting/eval_phase/test_stream/Task000/Exp000",
    }
    shown = {name: board.Scalars(name)[-1].value for name in names}
    (file,) = (tmp_path / "results" / "logs" / "wandb").glob("offline-run-*/*.wandb")
    sent = written_for_wandb(file)
    assert {name: sent[name] for name in names} == pytest.approx(shown)
    assert shown["Penalty_Epoch/train_phase/train_stream"] > 0
    assert shown["Method_Memory/train_phase/train_stream"] > 10_000


def test_all_are_here_and_short():
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
    assert scripts.keys() == {*SCRIPTS, "digit_images", "loggers"}
    assert all(len(text.splitlines()) <= 60 for text in scripts.values())
    assert len(scripts["image_folder"].splitlines()) <= 25


def test_the_documentation_shows_the_script():
    page = (FOLDER.parent / "docs" / "own-data.md").read_text(encoding="utf-8")
    shown = (FOLDER / "image_folder.py").read_text(encoding="utf-8") in page  # no diff is wanted
    assert shown, "copy examples/image_folder.py into docs/own-data.md"
