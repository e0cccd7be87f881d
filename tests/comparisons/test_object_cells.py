"""Parts of the object recognition experiments."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from avalanche.training.plugins import SupervisedPlugin

from avalanche_mas.plugins import MASPlugin
from avalanche_mas.plugins.registry import METHODS
from benchmarks.experiments import adaptation, figure5, l2_vs_vector, table1, table2
from benchmarks.objects import images
from benchmarks.objects.accuracies import final_and_drop
from benchmarks.objects.cell import Drawn, FirstTask, ObjectCell
from benchmarks.objects.experiment import PAPER, SMALL, choose_rows
from benchmarks.objects.pairs import PairsReport, numbers
from benchmarks.objects.training import run_cell, train
from benchmarks.training.result import StreamResult
from benchmarks.training.selection import published_strength

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
    assert PAPER.first == FirstTask(learning_rate=4e-4, drop_every=45, batch_size=100)
    assert settings.data == "/data"
    assert settings.drawn is None
    assert settings.factors == (1.0,)
    assert figure5.SETTINGS.configure(select="published").factors == (1.0,)
    with pytest.raises(ValueError, match="--select is 'framework': give grid or published"):
        figure5.SETTINGS.configure(select="framework")
    rows = choose_rows(replace(settings, methods=("MAS", "SI", "joint")), None)
    assert {name: row.choice and row.choice.lam for name, row in rows.items()} == {
        "MAS": 1.0,
        "SI": 2.0,
        "joint": None,
    }
    cell = settings.cell("birds-cars", "MAS", 1.0, 0)
    assert (cell.data, cell.lam, cell.label) == ("/data", 1.0, "MAS")


def test_each_network_is_trained_as_it_needs():
    settings = figure5.SETTINGS
    assert settings.training.model == "pretrained"
    assert settings.configure(epochs=3).training.epochs == 3
    assert settings.configure(model="small").training == SMALL
    assert settings.configure(model="alexnet").training == PAPER
    assert settings.configure(Path("/data"), "pretrained").training == settings.training
    assert figure5.FAST.training.model == "small"


def test_every_method_has_a_strength_to_begin_with():
    strengths = {name: published_strength(name) for name, m in METHODS.items() if m.plugin}
    assert strengths["MAS"] == strengths["LwF"] == strengths["EBLL"] == 1.0
    assert all(value > 0 for value in strengths.values())


class LearningRates(SupervisedPlugin):
    """Notes the learning rate and the batch size of each epoch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def before_training_iteration(self, strategy, **kwargs):
        if strategy.clock.train_epoch_iterations == 0:
            self.found.append((strategy.optimizer.param_groups[0]["lr"], len(strategy.mb_x)))


@pytest.mark.parametrize("method", ["finetuning", "joint"])
def test_the_learning_rate_drops_and_the_first_task_has_its_own(method):
    first = FirstTask(0.25, 1, 5)
    training = replace(CELL.training, learning_rate=0.5, epochs=3, drop_every=2, first=first)
    cell, seen = replace(CELL, method=method, training=training), LearningRates()
    train(cell, images.load(cell), {}, [seen])
    if method == "joint":
        expected = [(0.5, 32), (0.5, 32), (0.05, 32)]
    else:  # the second task has 24
        expected = [(0.25, 5), (0.025, 5), (0.0025, 5), (0.5, 24), (0.5, 24), (0.05, 24)]
    assert seen.found == [(pytest.approx(rate), size) for rate, size in expected]


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


def answering(scores, learnt=lambda seed: 0.9):
    """What a run would find, without one: by method, and λ where that matters."""

    def answer(title, cells):
        found = {}
        for cell in cells:
            score = scores.get((cell.method, cell.lam), 0.5)
            made = result([[learnt(cell.seed), None], [score] * 2])
            found[cell] = replace(made, final_accuracy=score)
        return found

    return answer


def test_mas_is_not_tuned_and_the_chosen_strength_has_another_row():
    settings = replace(table1.SETTINGS, seeds=(0,), methods=("finetuning", "SI", "MAS"))
    better = {("MAS", 10.0): 0.8, ("SI", 0.2): 0.7}
    rows = {row["method"]: row for row in table1.run(settings, answering(better))._ours()}
    assert set(rows) == {"finetuning", "SI", "MAS", "MAS, λ chosen"}
    assert rows["MAS"]["Flowers→Scenes"] == "50.0 (-40.0) / 50.0"
    assert rows["MAS, λ chosen"]["Flowers→Scenes"] == "80.0 (-10.0) / 80.0"
    assert rows["SI"]["Flowers→Scenes"] == "70.0 (-20.0) / 70.0"


def test_seeds_that_never_learnt_are_left_out_for_all_methods():
    settings = replace(figure5.SETTINGS, seeds=(0, 1, 2), factors=(1.0,))
    settings = replace(settings, sequences=("flowers-scenes",))
    outcome = figure5.run(settings, answering({}, lambda seed: 0.1 if seed == 1 else 0.9))
    assert {len(tests) for tests in outcome.tests.values()} == {2}
    assert "(seed 0)" in outcome.remarks()[2]
    assert "(seed 1)" not in outcome.remarks()[2]
    (sentence,) = [remark for remark in outcome.remarks() if "left out" in remark]
    assert sentence.startswith("Seed 1 is left out of Flowers→Scenes, for all methods")
    assert "10.0 % where the best seed reaches 90.0 %" in sentence


def test_the_papers_numbers():
    """Of the accuracies in Table 2 and the drops in Table 1, two ways to the same."""
    for sequence in range(4):
        first, drop, second = table1.PAPER["MAS"][sequence]
        derived = table2.PAPER["MAS, train"][sequence]
        assert derived == (first, pytest.approx(drop, abs=0.051), second)
    mean = {row: np.mean([drop for _, drop, _ in pairs]) for row, pairs in table2.PAPER.items()}
    assert mean["MAS, train"] == pytest.approx(0.8, abs=0.1)  # the text says 1
    assert mean["LocalMAS, train"] == pytest.approx(2.4, abs=0.1)  # the text says 3


def test_what_is_held_while_learning_counts():
    """LwF's recorded outputs are gone when a task ends, and were there."""
    found = run_cell(replace(CELL, method="LwF", lam=1.0))
    assert found.memory_while_learning[1] > found.memory_after_each[1] + 4 * 40
    for while_learning, after in zip(
        found.memory_while_learning, found.memory_after_each, strict=True
    ):
        assert while_learning >= after


def test_lwf_warms_its_head_up():
    """With a learning rate that moves nothing but by the warm-up's extra steps, it would not."""
    cell = replace(CELL, method="LwF", lam=0.0)
    assert run_cell(cell).weights_sha256 != run_cell(replace(CELL)).weights_sha256


def test_both_outputs_protect_as_much():
    fields = vars(replace(CELL, method="MAS", lam=1.0))
    sums = l2_vs_vector.run_cell(l2_vs_vector.SumsCell(**fields)).sums
    other = l2_vs_vector.run_cell(l2_vs_vector.SumsCell(**fields | {"output": "vector"})).sums
    assert sums == other  # before any protection
    assert all(value > 0 for value in sums.values())

    asked = {}

    def answer(title, cells):
        asked[title] = list(cells)
        made = result([[0.9, None], [0.8, 0.7]])
        return {
            c: l2_vs_vector.SumsResult(**vars(made), sums={"norm": 39.0, "vector": 1.0})
            for c in asked[title]
        }

    l2_vs_vector.run(replace(l2_vs_vector.SETTINGS, seeds=(0,)), answer)
    assert {c.lam for c in asked["by the norm"]} == {1.0}
    assert {(c.lam, c.output) for c in asked["by the vector"]} == {(39.0, "vector")}


def test_importance_is_measured_on_one_class_only(monkeypatch):
    measured = []
    measure = MASPlugin.measure

    def noting(self, model, data, forward, batch_size):
        data = list(data)
        measured.append([x for batch in data for x in batch[1].tolist()])
        return measure(self, model, data, forward, batch_size)

    monkeypatch.setattr(MASPlugin, "measure", noting)
    fields = vars(replace(CELL, method="MAS", lam=100.0, sequence="flowers-scenes-birds"))
    whole, anew, summed = (
        adaptation.run_cell(adaptation.AdaptationCell(**fields, kept=kept, anew=anew))
        for kept, anew in ((None, True), ("rose", True), ("rose", False))
    )
    assert len({run.weights_sha256 for run in (whole, anew, summed)}) == 3
    (label,) = set(measured[3])
    assert all(labels == [label] * 4 for labels in measured[3:])  # after each task the same four
    assert len(measured) == 9
    usual = run_cell(ObjectCell(**fields))
    assert whole.weights_sha256 == usual.weights_sha256  # the measuring leaves no trace
    for run in (whole, anew, summed):
        for step, classes in enumerate(run.class_accuracy):
            assert np.mean(list(classes.values())) == pytest.approx(run.accuracy[step][0])


def test_what_the_frozen_part_returns_is_kept(monkeypatch):
    training = figure5.FAST.trainings[0]
    assert training.model == "pretrained"
    cell = replace(CELL, method="MAS", lam=1.0, sequence="scenes-svhn", training=training)
    assert not run_cell(cell).diverged
    monkeypatch.setattr("benchmarks.training.features.frozen_part", None)
    (x, *_) = images.load(cell).train_stream[1].dataset[0]
    assert x.shape == (80, 2, 2)
    with pytest.raises(TypeError):  # other pictures are not known
        images.load(replace(cell, training=replace(training, resize=64)))
