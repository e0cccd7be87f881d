"""The drawn miniature of 6DS."""

import filecmp
import os

import numpy as np
import pytest
from PIL import Image

from avalanche_mas.benchmarks.facts import read_csv_release, sports_facts
from avalanche_mas.miniature.facts import fact_miniature
from avalanche_mas.miniature.facts.scenes import FACTS
from avalanche_mas.miniature.facts.words import concept_vectors

OPTIONS = {"most": 12, "size": 32, "verbose": False}


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_facts():
    facts = list(FACTS)
    assert len(facts) >= 40
    assert {fact.kind for fact in facts} == {"S", "SP", "SPO"}
    for position in range(3):
        assert len({fact.units[position] for fact in facts} - {None}) >= 12
    assert len(sports_facts(facts)) == 7
    words = {word for fact in facts for unit in fact.units if unit for word in unit.split()}
    assert words == set(concept_vectors()[0])


def test_counts_have_a_long_tail(tmp_path, miniature):
    release = read_csv_release(miniature)
    counts = {
        name: np.bincount([image.fact for image in images], minlength=len(FACTS))
        for name, images in release.images.items()
    }
    assert counts["train"].max() == 12
    assert counts["train"].min() == 6
    assert np.median(counts["train"]) < counts["train"].mean()
    np.testing.assert_array_equal(counts["test"], -(-counts["train"] // 2))
    # in no order that would give the fact away
    shown = [image.fact for image in release.images["train"]]
    assert np.mean(np.diff(shown) == 0) < 0.1


def test_same_bytes_again(tmp_path, miniature):
    again = fact_miniature(tmp_path / "again", **OPTIONS)
    assert files(again) == files(miniature)
    assert not filecmp.cmpfiles(again, miniature, files(again), shallow=False)[1]
    other = fact_miniature(tmp_path / "other", seed=1, **OPTIONS)
    picture = "images/train/6DS_train_0000000001.jpg"
    assert not filecmp.cmp(other / picture, miniature / picture, shallow=False)
    assert os.listdir(tmp_path) != []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "other"]


def test_left_as_it_is_or_replaced(tmp_path):
    root = fact_miniature(tmp_path / "mini", **OPTIONS)
    before = (root / "word_vectors.bin").stat().st_mtime_ns
    fact_miniature(root, **OPTIONS)
    assert (root / "word_vectors.bin").stat().st_mtime_ns == before
    fact_miniature(root, **OPTIONS | {"size": 16})
    with Image.open(root / "images" / "train" / "6DS_train_0000000001.jpg") as image:
        assert image.size == (16, 16)


def test_nothing_else_is_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"not empty and has no fact_miniature.json"):
        fact_miniature(tmp_path, **OPTIONS)
    with pytest.raises(FileExistsError, match="is a file: give a folder"):
        fact_miniature(tmp_path / "mine.txt", **OPTIONS)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("bad", [{"most": 3}, {"size": 8}, {"seed": -1}])
def test_options_out_of_range(tmp_path, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        fact_miniature(tmp_path / "mini", **OPTIONS | bad)
    assert not (tmp_path / "mini").exists()


def test_interrupted(tmp_path, monkeypatch):
    """Nothing is left behind, and what was there before stays."""
    import avalanche_mas.miniature.facts.writing as writing

    root = fact_miniature(tmp_path / "mini", **OPTIONS)
    names = files(root)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_write_facts", stop)
    with pytest.raises(KeyboardInterrupt):
        fact_miniature(root, seed=5, **OPTIONS)
    assert files(root) == names
    assert [path.name for path in tmp_path.iterdir()] == ["mini"]


def test_drawings_differ(miniature):
    """The mean pictures of two facts differ by more than those of two halves of the same fact."""
    release = read_csv_release(miniature)
    pictures = {}
    for image in release.images["train"]:
        with Image.open(image.path) as file:
            pictures.setdefault(image.fact, []).append(np.asarray(file, dtype=float))
    assert all(np.std(fact[0] - fact[1]) > 5 for fact in pictures.values())  # none drawn twice
