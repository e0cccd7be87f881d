"""Data of the fact experiments: what streams hold, and what happens if they are missing."""

from collections import Counter

import pytest
import torch
from typer.testing import CliRunner

from avalanche_mas.benchmarks.facts import read_csv_release, sports_facts
from avalanche_mas.miniature.facts import WORD_VECTORS, fact_miniature
from benchmarks.cli import app
from benchmarks.experiments import figure7, table4
from benchmarks.facts.cell import FactCell, FactData
from benchmarks.facts.data import fact_streams, hold_out
from benchmarks.facts.experiment import SMALL


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    return fact_miniature(tmp_path_factory.mktemp("6ds") / "mini", most=8, size=24, verbose=False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def cell(experiment, data, validation=0.0):
    settings = experiment.FAST
    row = settings.rows[0]
    return FactCell(settings.split, row, None, 0, validation, data, settings.training)


def test_hold_out(miniature):
    release = read_csv_release(miniature)
    held = hold_out(release, 0.25)
    assert sorted(held.images["train"] + held.images["test"]) == sorted(release.images["train"])
    counts = {name: Counter(image.fact for image in images) for name, images in held.images.items()}
    for fact in range(len(release.facts)):
        found = counts["train"][fact] + counts["test"][fact]
        assert counts["test"][fact] == -(-found // 4)


def test_pictures_are_the_releases_own(miniature):
    data = FactData(str(miniature), str(miniature / WORD_VECTORS))
    on_disk = fact_streams(cell(figure7, data))
    drawn = fact_streams(cell(figure7, FactData(most=8)))
    assert set(drawn.streams) == {"train", "test", "sports_train", "sports_test"}
    for name, stream in drawn.streams.items():
        for a, b in zip(stream, on_disk.streams[name], strict=True):
            assert a.facts == b.facts
            assert list(a.dataset.fact_numbers) == list(b.dataset.fact_numbers)
    x, y = drawn.test_stream[1].dataset[0]
    assert x.shape == (3, 16, 16)
    assert torch.equal(y, on_disk.test_stream[1].dataset[0][1])


def test_sports_are_followed_and_come_first():
    streams = fact_streams(cell(figure7, FactData(most=6))).streams
    facts = [fact for task in streams["train"] for fact in task.facts]
    sports = sports_facts(facts)
    assert list(streams["sports_train"][0].facts) == sports_facts(streams["sports_train"][0].facts)
    assert set(streams["sports_test"][0].facts) == set(sports)
    assert len(sports) == 7
    inside = [len(set(sports) & set(task.facts)) for task in streams["train"]]
    assert inside[0] == max(inside)
    assert "sports_train" not in fact_streams(cell(table4, FactData(most=6))).streams


def test_validation_takes_the_place_of_tests(miniature):
    whole = fact_streams(cell(table4, FactData(most=6)))
    held = fact_streams(cell(table4, FactData(most=6), validation=0.25))
    for all_of_it, part, rest in zip(
        whole.train_stream, held.train_stream, held.test_stream, strict=True
    ):
        assert len(part.dataset) + len(rest.dataset) == len(all_of_it.dataset)
        assert set(rest.dataset.fact_numbers) == set(all_of_it.fact_numbers)


def run(tmp_path, *options):
    """Run table4 with these options, and return what it says; nothing may be trained."""
    out = tmp_path / "results"
    result = CliRunner().invoke(
        app, ["run", "table4", "--model", "small", "--out", str(out), *map(str, options)]
    )
    assert result.exit_code == 1
    assert not list(out.rglob("*.json"))
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_missing_or_broken_data_stop_everything(tmp_path, miniature):
    vectors = miniature / WORD_VECTORS
    missing = tmp_path / "missing"
    assert f"{missing} is not a folder" in run(tmp_path, "--data", missing, "--vectors", vectors)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has neither 4tasks_random" in run(tmp_path, "--data", empty)
    nowhere = tmp_path / "vectors.bin"
    said = run(tmp_path, "--data", miniature, "--vectors", nowhere)
    assert f"no file of word vectors at {nowhere}" in said
    nowhere.write_bytes(b"these are no vectors")
    said = run(tmp_path, "--data", miniature, "--vectors", nowhere)
    assert f"cannot read {nowhere}" in said
    nowhere.write_bytes(b"1 2\nperson " + bytes(8))
    assert "no vectors for" in run(tmp_path, "--data", miniature, "--vectors", nowhere)


def test_missing_pictures_and_embeddings(tmp_path):
    root = fact_miniature(tmp_path / "mini", most=6, size=16, verbose=False)
    embedding = next((root / "NLP_feat").rglob("*.txt"))
    embedding.unlink()
    assert f"{embedding}, the embedding of" in run(tmp_path, "--data", root)
    picture = next((root / "images" / "train").iterdir())
    picture.unlink()
    assert str(picture) in run(tmp_path, "--data", root)


def test_options_that_do_not_fit(tmp_path, miniature):
    vectors = miniature / WORD_VECTORS
    assert "give --data with --vectors" in run(tmp_path, "--vectors", vectors)
    options = ["--data", miniature, "--vectors", vectors]
    result = CliRunner().invoke(
        app, ["run", "table4", "--model", "no-file", *map(str, options), "--out", str(tmp_path)]
    )
    assert result.exit_code == 1
    assert "'no-file' is no file" in result.output


def test_the_papers_settings(miniature):
    settings = table4.SETTINGS.configure(data=miniature, vectors=miniature / WORD_VECTORS)
    assert settings.data == FactData(str(miniature), str(miniature / WORD_VECTORS))
    training = settings.training
    assert (training.network, training.batch_size, training.epochs) == ("vgg16", 35, 300)
    assert dict(settings.given)["MAS"] == 5
    assert (training.last_rate, training.last_bias_rate, training.bias_rate) == (10, 20, 4)
    assert settings.configure(epochs=3).training.epochs == 3
    assert settings.configure(model="small").training == SMALL
