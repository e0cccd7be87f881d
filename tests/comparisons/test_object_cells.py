"""Parts of the object recognition experiments."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avalanche_mas.plugins.registry import METHODS
from benchmarks.experiments import adaptation, figure5, table1
from benchmarks.objects import images
from benchmarks.objects.accuracies import final_and_drop
from benchmarks.objects.cell import Drawn, ObjectCell
from benchmarks.objects.experiment import PAPER, reported_cells
from benchmarks.objects.pairs import PairsReport, numbers
from benchmarks.objects.training import DropLearningRate, run_cell
from benchmarks.training.selection import Choice, published_strength
from benchmarks.training.stream import StreamResult

DRAWN = Drawn(images_per_class=4, size=24)
CELL = ObjectCell("flowers-scenes", "finetuning", None, 0, 0.0, None, DRAWN, figure5.FAST.training)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Draw into a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def result(accuracy):
    return StreamResult(accuracy, 0.0, None, 1.0, 0.5, 10, "", False, [10, 20])


def test_a_cell_gives_the_same_numbers_again():
    first, again = run_cell(CELL), run_cell(CELL)
    assert first.weights_sha256 == again.weights_sha256
    assert first.accuracy == again.accuracy
    assert run_cell(replace(CELL, seed=1)).weights_sha256 != first.weights_sha256


def test_images_that_are_read_from_disk_train_too():
    cell = replace(CELL, training=replace(CELL.training, augmented=True, drop_every=1))
    first, again = run_cell(cell), run_cell(cell)
    assert first.weights_sha256 == again.weights_sha256 != run_cell(CELL).weights_sha256


@pytest.mark.parametrize("method", METHODS)
def test_the_papers_augmentation_trains_with_every_method(method, monkeypatch):
    """Random crops, of which LwF and EBLL cannot write down what the old model says."""
    monkeypatch.setattr("benchmarks.objects.training._LOADERS", 0)
    lam = published_strength(method) if METHODS[method].plugin else None
    training = replace(CELL.training, augmented=True)
    found = run_cell(replace(CELL, method=method, lam=lam, training=training))
    assert len(found.accuracy[-1]) == 2
    assert not found.diverged


def test_streams_and_output_reach_mas():
    cell = replace(CELL, method="MAS", lam=100.0)
    changes = ({}, {"streams": "test"}, {"streams": "train+test"}, {"output": "vector"})
    found = {run_cell(replace(cell, **change)).weights_sha256 for change in changes}
    assert len(found) == 4


def test_cells_that_differ_have_other_names():
    changes = [
        {"sequence": "scenes-flowers"},
        {"streams": "test"},
        {"output": "vector"},
        {"data": "/elsewhere"},
        {"drawn": Drawn(seed=1)},
        {"training": replace(CELL.training, epochs=7)},
    ]
    cells = [CELL, *(replace(CELL, **change) for change in changes)]
    assert len({cell.name for cell in cells}) == len(cells)


def test_images_in_memory_are_those_on_disk():
    squares = images.load(CELL)
    cropped = images.load(replace(CELL, training=replace(CELL.training, augmented=True)))
    for task in range(2):
        kept, read = (b.test_stream[task].dataset for b in (squares, cropped))
        assert len(kept) == len(read)
        for i in (0, len(kept) - 1):
            assert (kept[i][0] == read[i][0]).all()
            assert kept[i][1:] == read[i][1:]


def test_data_change_the_settings_to_the_papers():
    settings = figure5.SETTINGS.configure(data=Path("/data"))
    assert settings.training == PAPER
    assert (PAPER.model, PAPER.epochs, PAPER.batch_size) == ("alexnet", 100, 200)
    assert settings.data == "/data"
    assert settings.drawn is None
    assert settings.factors == (1.0,)
    assert figure5.SETTINGS.configure(epochs=3).training.epochs == 3
    alexnet = figure5.SETTINGS.configure(model="alexnet").training
    assert (alexnet.model, alexnet.crop) == ("alexnet", 224)
    cell = reported_cells(settings, {"MAS": Choice(1.0, False)}, "birds-cars")["MAS", 0]
    assert (cell.data, cell.lam) == ("/data", 1.0)


def test_every_method_has_a_strength_to_begin_with():
    strengths = {name: published_strength(name) for name, m in METHODS.items() if m.plugin}
    assert strengths["MAS"] == strengths["LwF"] == strengths["EBLL"] == 1.0
    assert all(value > 0 for value in strengths.values())


def test_the_learning_rate_drops_and_begins_anew():
    class Strategy:
        optimizer = type("", (), {"param_groups": [{"lr": 0.0}]})()
        clock = type("", (), {"train_exp_epochs": 0})()

    plugin, strategy = DropLearningRate(0.5, every=3), Strategy()
    rates = []
    for epoch in (0, 1, 2, 3, 5, 6, 0):
        strategy.clock.train_exp_epochs = epoch
        plugin.before_training_epoch(strategy)
        rates.append(strategy.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.05, 0.005, 0.5])


def test_drops_are_since_a_task_was_learnt():
    final, drop = final_and_drop(result([[0.9, None], [0.4, 0.8]]))
    assert final == pytest.approx([40, 80])
    assert drop == pytest.approx([50, 0])
    assert np.isnan(final_and_drop(result([[0.4, 0.8]]))[1]).all()
    assert numbers(result([[0.9, None], [0.4, 0.8]])) == pytest.approx([40, 50, 80])


def test_pairs_are_shown_as_in_the_paper():
    runs = {"MAS": {"birds-scenes": [result([[0.9, None], [0.4, 0.8]])]}}
    outcome = PairsReport("", runs, {"MAS": ((53.0, 0.5, 55.0),)}, "", [])
    assert outcome._ours() == [{"method": "MAS", "Birds→Scenes": "40.0 (-50.0) / 80.0"}]
    assert outcome._papers() == [{"method": "MAS", "Birds→Scenes": "53.0 (-0.5) / 55.0"}]
    assert outcome._gaps() == [{"method": "MAS", "Birds→Scenes": "+49.5"}]


def test_imm_is_the_better_of_its_two():
    scores = {"meanIMM": 0.3, "modeIMM": 0.7}

    def answer(title, cells):
        return {cell: result([[0.9, None], [scores.get(cell.method, 0.5)] * 2]) for cell in cells}

    outcome = table1.run(table1.FAST, answer)
    rows = {row["method"]: row for row in outcome._ours()}
    assert set(rows) == {"finetuning", "LwF", "EBLL", "IMM", "SI", "EWC", "MAS"}
    assert rows["IMM"]["Flowers→Scenes"] == "70.0 (-20.0) / 70.0"


def test_importance_is_measured_on_one_class_only():
    fields = vars(replace(CELL, method="MAS", lam=100.0))
    whole, adapted = (
        adaptation.run_cell(adaptation.AdaptationCell(**fields, kept=kept))
        for kept in (None, "rose")
    )
    assert whole.weights_sha256 != adapted.weights_sha256
    usual = run_cell(replace(CELL, method="MAS", lam=100.0))
    assert whole.weights_sha256 == usual.weights_sha256  # the measuring leaves no trace
    for run in (whole, adapted):
        for step, classes in enumerate(run.class_accuracy):
            assert np.mean(list(classes.values())) == pytest.approx(run.accuracy[step][0])
