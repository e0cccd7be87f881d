"""Files of word vectors, and the embeddings of facts."""

import gzip
import os
import pickle
import sys
import time

import numpy as np
import pytest

from avalanche_mas.benchmarks.fact_benchmark import fact_learning
from avalanche_mas.benchmarks.facts import (
    Fact,
    UnknownWordsError,
    embed_facts,
    embed_units,
    load_word_vectors,
)
from avalanche_mas.miniature.facts import WORD_VECTORS
from avalanche_mas.miniature.facts.words import concept_vectors

pytest.importorskip("gensim")
D = 3
VECTORS = {
    "dog": [1, 2, 3],
    "running": [4, 5, 6],
    "ice": [2, 0, 0],
    "hockey": [0, 4, 8],
    "french_horn": [7, 7, 7],
    "television": [5, 5, 9],
    "Person": [1, 0, 1],
}


def keyed_vectors():
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(D)
    vectors.add_vectors(list(VECTORS), np.array(list(VECTORS.values()), dtype=np.float32))
    return vectors


@pytest.mark.parametrize("name", ["v.bin", "v.bin.gz", "v.vec", "glove.txt", "glove.txt.gz"])
def test_all_formats_give_the_same(tmp_path, name):
    """The files of word2vec and gensim are gensim's own work; GloVe's have no first line."""
    path = tmp_path / name
    if name.startswith("glove"):
        text = "\n".join(f"{word} {' '.join(map(str, row))}" for word, row in VECTORS.items())
        data = (text + "\n").encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    else:
        keyed_vectors().save_word2vec_format(str(path), binary=".bin" in name)
    vectors = load_word_vectors(path)
    for word, row in VECTORS.items():
        assert word in vectors
        np.testing.assert_array_equal(vectors[word], row)


def test_limit(tmp_path):
    keyed_vectors().save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    vectors = load_word_vectors(tmp_path / "v.bin", limit=2)
    assert "running" in vectors
    assert "ice" not in vectors


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="GoogleNews"):
        load_word_vectors(tmp_path / "none.bin")
    (tmp_path / "v.bin").write_bytes(b"these are no vectors\n")
    with pytest.raises(ValueError, match=r"v.bin as word2vec's binary"):
        load_word_vectors(tmp_path / "v.bin")
    (tmp_path / "v.txt").write_text("dog 1 2 3\ncat 1 x 3\n")
    with pytest.raises(ValueError, match=r"v.txt as text"):
        load_word_vectors(tmp_path / "v.txt")


class RunsCode:
    """Unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["v.kv", "v.KV", "v.model", "v.pkl", "v.bin", "v.txt", "v"])
def test_a_file_of_vectors_runs_no_code(tmp_path, name):
    """gensim's own format is a pickle, whatever it is called."""
    (tmp_path / name).write_bytes(pickle.dumps(RunsCode(tmp_path / "ran")))
    with pytest.raises(ValueError, match=name):
        load_word_vectors(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_gensims_own_format_says_what_to_do(tmp_path):
    keyed_vectors().save(str(tmp_path / "v.kv"))
    with pytest.raises(ValueError, match=r"v\.kv is a pickle.*any code.*save_word2vec_format"):
        load_word_vectors(tmp_path / "v.kv")


def test_without_gensim(tmp_path, monkeypatch):
    (tmp_path / "v.bin").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(ImportError, match=r"avalanche-mas\[facts\]"):
        load_word_vectors(tmp_path / "v.bin")


def test_several_words():
    """An entry of its own comes before the mean of the words."""
    found = embed_units(
        ["ice hockey", "french-horn", "frenchhorn", "TV", "DOG", "running dog", "Person"], VECTORS
    )
    np.testing.assert_array_equal(found["ice hockey"], [1, 2, 4])
    np.testing.assert_array_equal(found["french-horn"], [7, 7, 7])
    np.testing.assert_array_equal(found["frenchhorn"], [7, 7, 7])
    np.testing.assert_array_equal(found["TV"], [5, 5, 9])
    np.testing.assert_array_equal(found["DOG"], [1, 2, 3])
    np.testing.assert_array_equal(found["running dog"], [2.5, 3.5, 4.5])
    np.testing.assert_array_equal(found["Person"], [1, 0, 1])


def test_blocks_and_mean():
    """Zero blocks for missing units, and the mean of the facts subtracted last."""
    facts = [Fact("dog"), Fact("dog", "running"), Fact("dog", "running", "ice")]
    raw = np.array(
        [
            [1, 2, 3, 0, 0, 0, 0, 0, 0],
            [1, 2, 3, 4, 5, 6, 0, 0, 0],
            [1, 2, 3, 4, 5, 6, 2, 0, 0],
        ],
        dtype=np.float32,
    )
    np.testing.assert_array_equal(embed_facts(facts, VECTORS, subtract_mean=False), raw)
    embedded = embed_facts(facts, VECTORS)
    np.testing.assert_allclose(embedded, raw - raw.sum(axis=0) / 3, rtol=1e-6)
    assert embedded.dtype == np.float32


@pytest.mark.parametrize("name", ["lies.bin", "lies.bin.gz", "lies.txt"])
def test_a_file_that_is_too_small_for_its_first_line(tmp_path, name):
    """That is known before memory is taken for three million vectors."""
    path = tmp_path / name
    with gzip.open(path, "wb") if name.endswith(".gz") else path.open("wb") as file:
        file.write(b"3000000 300\ndog " + bytes(1200))
    start = time.process_time()
    with pytest.raises(ValueError, match=f"{name} .*3,000,000 vectors of 300 numbers.*it has"):
        load_word_vectors(path)
    assert time.process_time() - start < 1


def test_unknown_words_are_all_listed():
    facts = [Fact("dogg", "running"), Fact("dog", "water skiing", "ice")]
    with pytest.raises(UnknownWordsError) as raised:
        embed_facts(facts, VECTORS)
    message = str(raised.value)
    assert "3 words" in message
    assert "'dogg': dog?" in message
    assert "'water' (of 'water skiing')" in message
    assert "'skiing'" in message
    assert "synonyms=" in message
    embed_facts(facts, VECTORS, synonyms={"dogg": "dog", "water skiing": "running"})


def test_vectors_of_unlike_length():
    with pytest.raises(ValueError, match="'b' has the shape"):
        embed_units(["a", "b"], {"a": [1.0, 2.0], "b": [1.0]})
    with pytest.raises(ValueError, match="same length"):
        embed_units(["a b"], {"a": [1.0, 2.0], "b": [1.0]})


def test_geometry_of_the_miniature_follows_the_concepts(miniature):
    """Read by gensim: words of a family are closer than those of a kind, and these than others."""
    vectors = load_word_vectors(miniature / WORD_VECTORS)
    words, rows = concept_vectors()
    assert list(vectors.key_to_index) == words
    np.testing.assert_array_equal(vectors.vectors, rows)
    streams = fact_learning(miniature, miniature / WORD_VECTORS, "random-2", 0)
    assert streams.targets.shape == (51, 903)
    assert vectors.similarity("dog", "cat") > vectors.similarity("dog", "cow") + 0.1
    assert vectors.similarity("dog", "cow") > vectors.similarity("dog", "tennis") + 0.1
    assert vectors.similarity("football", "volleyball") > vectors.similarity("football", "golf")
