import json
import logging

import pytest
from run_counted import result

from benchmarks.deployment.cell import DeploymentCell, DeploymentSettings
from benchmarks.digits.cell import DigitsCell, DigitsTraining
from benchmarks.runs.store import CellStore
from benchmarks.training.stream import StreamResult

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


@pytest.mark.parametrize("damage", ["truncated", "empty", "binary", "list", "keys", "foreign"])
def test_unusable_files_are_moved_aside(store, damage, caplog):
    other = DigitsCell("split", 2, "MAS", 1.0, 0, 0.0, TRAINING)
    store.save(other, result(1))
    store.save(CELL, result(2))
    path = store.path(CELL)
    whole = path.read_bytes()
    content = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "binary": b"\xff\xfe\x00",
        "list": b"[1, 2]",
        "keys": whole.replace(b"final_accuracy", b"first_accuracy"),
        "foreign": store.path(other).read_bytes(),
    }[damage]
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


def test_mixed_versions_are_told(store):
    store.save(CELL, result(1))
    other = DigitsCell("split", 2, "MAS", 1.0, 0, 0.0, TRAINING)
    store.save(other, result(1))
    assert "mixed" not in store.origin()
    path = store.path(other)
    path.write_text(path.read_text().replace("torch 2", "torch 1"))
    store.load(other)
    assert "mixed" in store.origin()
