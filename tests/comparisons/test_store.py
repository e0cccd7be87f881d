import json
import logging

import pytest
from run_counted import result

from benchmarks.deployment.cell import DeploymentCell, DeploymentSettings
from benchmarks.digits.cell import DigitsCell, DigitsTraining
from benchmarks.runs.store import CellStore
from benchmarks.training.result import StreamResult

TRAINING = DigitsTraining(hidden_units=1, learning_rate=0.1, momentum=0.0, batch_size=1, epochs=1)
CELL = DigitsCell("permuted", 2, "MAS", 1.0, 0, 0.0, TRAINING)


@pytest.fixture
def store(tmp_path):
    return CellStore(tmp_path / "new" / "digits", {"seeds": [0, 1]}, StreamResult)


def test_what_is_saved_is_loaded(store):
    assert store.load(CELL) is None
    store.save(CELL, result(7))
    assert store.load(CELL) == result(7)
    content = json.loads(store.path(CELL).read_text())
    assert content["cell"]["training"]["learning_rate"] == 0.1
    assert content["experiment"] == {"seeds": [0, 1]}
    assert "torch 2" in content["versions"]
    assert "torch 2" in store.origin()
    assert [path.name for path in store.folder.iterdir()] == [store.path(CELL).name]


def test_a_cell_with_tuples_is_found_again(store):
    cell = DeploymentCell(((0, 1), (8, 9)), None, 0, DeploymentSettings())
    store.save(cell, result(7))
    assert store.load(cell) == result(7)


def test_every_hyper_parameter_makes_another_cell():
    others = [
        DigitsCell("split", 2, "MAS", 1.0, 0, 0.0, TRAINING),
        DigitsCell("permuted", 3, "MAS", 1.0, 0, 0.0, TRAINING),
        DigitsCell("permuted", 2, "EWC", 1.0, 0, 0.0, TRAINING),
        DigitsCell("permuted", 2, "MAS", 1.0000001, 0, 0.0, TRAINING),
        DigitsCell("permuted", 2, "MAS", None, 0, 0.0, TRAINING),
        DigitsCell("permuted", 2, "MAS", 1.0, 1, 0.0, TRAINING),
        DigitsCell("permuted", 2, "MAS", 1.0, 0, 0.2, TRAINING),
        DigitsCell("permuted", 2, "MAS", 1.0, 0, 0.0, DigitsTraining(1, 0.1, 0.0, 1, 2)),
    ]
    assert len({cell.name for cell in [CELL, *others]}) == 9


def changed(key, value):
    """Another value in the result, such as only other hands can have written."""

    def change(whole):
        content = json.loads(whole)
        content["result"][key] = value
        return json.dumps(content).encode()

    return change


DAMAGES = {
    "truncated": lambda whole: whole[: len(whole) // 2],
    "empty": lambda _: b"",
    "binary": lambda _: b"\xff\xfe\x00",
    "list": lambda _: b"[1, 2]",
    "deep": lambda _: b"[" * 100_000,
    "keys": lambda whole: whole.replace(b"final_accuracy", b"first_accuracy"),
    "more": changed("further", 1),
    "text": changed("final_accuracy", "0.2"),
    "flat": changed("accuracy", [0.2]),
    "float": changed("memory_bytes", 0.5),
    "bool": changed("train_seconds", True),
    "none": changed("weights_sha256", None),
    "NaN": changed("final_accuracy", float("nan")),
    "infinity": changed("accuracy", [[float("inf")]]),
    "versions": lambda whole: whole.replace(b'"versions": "', b'"versions": 1, "was": "'),
    "foreign": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_unusable_files_are_moved_aside(store, damage, caplog):
    other = DigitsCell("split", 2, "MAS", 1.0, 0, 0.0, TRAINING)
    store.save(other, result(1))
    store.save(CELL, result(2))
    path = store.path(CELL)
    whole = path.read_bytes()
    content = DAMAGES[damage](whole) if damage != "foreign" else store.path(other).read_bytes()
    assert content != whole
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert store.load(CELL) is None
    assert "moved to" in caplog.text
    assert path.with_suffix(".json.unreadable").read_bytes() == content
    assert not path.exists()
    assert store.load(other) == result(1)


def test_a_write_that_fails_leaves_the_old_file(store, monkeypatch):
    store.save(CELL, result(1))

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        store.save(CELL, result(2))
    assert store.load(CELL) == result(1)
    assert [path.name for path in store.folder.iterdir()] == [store.path(CELL).name]


def test_seconds_of_a_damaged_file_are_unknown(store):
    store.save(CELL, result(1), seconds=7.0)
    assert store.seconds(CELL) == 7.0
    whole = store.path(CELL).read_text()
    for content in (whole.replace("7.0", "NaN"), whole.replace("7.0", '"x"'), "[" * 100_000, "1"):
        store.path(CELL).write_text(content)
        assert store.seconds(CELL) is None


def test_mixed_versions_are_told(store):
    store.save(CELL, result(1))
    other = DigitsCell("split", 2, "MAS", 1.0, 0, 0.0, TRAINING)
    store.save(other, result(1))
    assert "mixed" not in store.origin()
    path = store.path(other)
    path.write_text(path.read_text().replace("torch 2", "torch 1"))
    store.load(other)
    assert "mixed" in store.origin()
