"""Words → the vectors of units, and units → the embedding of a fact.

The paper's embeddings are made of word2vec's 300 numbers for each unit (T. Mikolov et al., NeurIPS
2013; the file ``GoogleNews-vectors-negative300.bin``), one after another: 900 for a fact.
"""

import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avalanche_mas.benchmarks.facts.fact import Fact

Floats = NDArray[np.float32]


class WordVectors(Protocol):
    """Vectors by word: gensim's ``KeyedVectors``, or a dictionary."""

    def __contains__(self, word: Any) -> bool: ...

    def __getitem__(self, word: Any) -> ArrayLike: ...


SYNONYMS = {"frenchhorn": "french_horn", "TV": "television"}
"""Spellings of 6DS that are no words, and what its authors looked up instead."""

_FEW_WORDS = 100_000  # of which it is quick to find those that are spelt much like another


class UnknownWordsError(KeyError):
    """Units of facts for which there are no word vectors."""

    def __str__(self) -> str:
        return str(self.args[0])


def load_word_vectors(path: str | Path, limit: int | None = None) -> WordVectors:
    """Read a file of word vectors with gensim.

    gensim's own format (``.kv``) is refused: such a file is a pickle, which can run any code.

    :param path: word2vec's binary format (``.bin``, ``.bin.gz``), or text with or without a first
        line of counts (word2vec, GloVe, fastText's ``.vec``).
    :param limit: read only so many words, the most frequent ones in most files: GoogleNews has
        3,000,000, which take 3.6 GB.
    :return: word → vector, float32, of the length that the file says.
    :raises ImportError: if gensim is not installed.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if the file has another format, or is a pickle.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file of word vectors at {path}. The paper's are "
            "GoogleNews-vectors-negative300.bin, from https://code.google.com/archive/p/word2vec/"
        )
    if _is_pickle(path):
        raise ValueError(
            f"{path} is a pickle, gensim's own format, which can run any code when it is read. If "
            "it is yours, write it with KeyedVectors.save_word2vec_format('vectors.bin', "
            "binary=True) and read that."
        )
    try:
        from gensim.models import KeyedVectors
    except ImportError as error:
        raise ImportError(
            "word vectors are read with gensim: pip install 'avalanche-mas[facts]', or give a "
            "dictionary of vectors"
        ) from error
    binary = ".bin" in path.suffixes
    try:
        counts = _counts(path)
        if counts is not None:
            _check_size(path, *counts, binary=binary)
        return KeyedVectors.load_word2vec_format(  # type: ignore[no-any-return]
            str(path),
            binary=binary,
            limit=limit,
            no_header=not binary and counts is None,
            unicode_errors="ignore",  # some files end a word in the middle of a character
        )
    except Exception as error:
        kind = "word2vec's binary format" if binary else "text with a word and its numbers a line"
        raise ValueError(f"cannot read {path} as {kind}: {error}") from error


def embed_facts(
    facts: Sequence[Fact],
    vectors: WordVectors,
    *,
    subtract_mean: bool = True,
    synonyms: Mapping[str, str] = SYNONYMS,
) -> Floats:
    """Embed facts: the vectors of subject, predicate and object, one after another.

    The block of a unit that is missing is zero. If the mean is subtracted that is done last, so
    that such a block ends up as minus the mean's, as in both releases of 6DS.

    :param facts: facts, each counted once in the mean, whatever the number of its pictures.
    :param vectors: vectors by word, all of the same length d.
    :param subtract_mean: subtract the mean of the embeddings from each of them.
    :param synonyms: what to look up for a unit instead.
    :return: (number of facts, 3d).
    :raises UnknownWordsError: with all words that were not found.
    :raises ValueError: if vectors differ in length.
    """
    units = {unit for fact in facts for unit in fact.units if unit is not None}
    found = embed_units(units, vectors, synonyms)
    width = len(next(iter(found.values())))
    blank = np.zeros(width, dtype=np.float32)
    rows = [
        np.concatenate([blank if unit is None else found[unit] for unit in fact.units])
        for fact in facts
    ]
    embeddings = np.stack(rows)
    return embeddings - embeddings.mean(axis=0) if subtract_mean else embeddings


def embed_units(
    units: Iterable[str], vectors: WordVectors, synonyms: Mapping[str, str] = SYNONYMS
) -> dict[str, Floats]:
    """Find the vector of each unit, of one word or several.

    A unit that has an entry of its own has that vector. It is tried as written, with ``_`` between
    its words, as phrases are written in GoogleNews, and both in lower case. Any other unit has the
    mean of its words' vectors. (The paper does not say what it did. Its authors' later code takes
    the mean too, of vectors scaled to length 1, to compare words with one another.)

    :param units: subjects, predicates and objects.
    :param vectors: vectors by word.
    :param synonyms: what to look up for a unit, or a word of it, instead.
    :return: vectors by unit.
    :raises UnknownWordsError: with all words that were not found.
    :raises ValueError: if vectors differ in length, or none are asked for.
    """
    found: dict[str, Floats] = {}
    unknown: dict[str, str] = {}
    for unit in sorted(units):
        words = re.split(r"[\s_-]+", synonyms.get(unit, unit).strip())
        entry = _entry([synonyms.get(unit, unit), "_".join(words)], vectors)
        entries = [entry] if entry else [_entry([synonyms.get(w, w)], vectors) for w in words]
        lacking = [word for word, name in zip(words, entries, strict=False) if name is None]
        unknown.update(dict.fromkeys(lacking, unit))
        if not lacking:
            rows = [np.asarray(vectors[name], dtype=np.float32) for name in entries]
            _require_one_length(dict(zip(words, rows, strict=False)))
            found[unit] = np.mean(rows, axis=0)
    if unknown:
        raise UnknownWordsError(_complaint(unknown, vectors))
    if not found:
        raise ValueError("there are no units to embed")
    _require_one_length(found)
    return found


def _entry(spellings: Sequence[str], vectors: WordVectors) -> str | None:
    """Find the first spelling that has a vector, as written before lower case."""
    tried = [*spellings, *(spelling.lower() for spelling in spellings)]
    return next((spelling for spelling in tried if spelling in vectors), None)


def _require_one_length(found: Mapping[str, Floats]) -> None:
    lengths = {unit: row.shape for unit, row in found.items()}
    first, shape = next(iter(lengths.items()))
    for unit, other in lengths.items():
        if other != shape or len(shape) != 1:
            raise ValueError(
                f"the vector of {unit!r} has the shape {other}, that of {first!r} {shape}: all "
                "must be of the same length"
            )


def _complaint(unknown: Mapping[str, str], vectors: WordVectors) -> str:
    """List the words that were not found, and say what can be done."""
    words = vectors if isinstance(vectors, Mapping) else getattr(vectors, "key_to_index", ())
    known = [str(word) for word in words] if len(words) < _FEW_WORDS else []
    lines = [f"no vectors for {len(unknown)} words:"]
    for word, unit in sorted(unknown.items()):
        close = get_close_matches(word.lower(), known, n=3)
        where = f" (of {unit!r})" if unit != word else ""
        lines.append(f"  {word!r}{where}" + (f": {', '.join(close)}?" if close else ""))
    lines.append(
        "Say what to look up instead, as in synonyms={**SYNONYMS, 'frisbee': 'flying_disc'}, or "
        "read more of the file (limit), or another file."
    )
    return "\n".join(lines)


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80" or path.suffix.lower() == ".kv"


def _counts(path: Path) -> tuple[int, int] | None:
    """Read the number of words and the length of vectors, if a file starts with them."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        first = file.readline(1000).split()
    if len(first) == 2 and all(number.isdigit() for number in first):
        return int(first[0]), int(first[1])
    return None


def _check_size(path: Path, words: int, length: int, *, binary: bool) -> None:
    """Make sure that as many vectors fit into a file, before gensim takes memory for them."""
    least = words * (1 + (4 if binary else 2) * length)  # bytes; a text has a digit and a space
    size = path.stat().st_size
    most = size * 1032 if path.suffix == ".gz" else size  # deflate packs no tighter
    if least > most:
        raise ValueError(
            f"its first line says {words:,} vectors of {length} numbers, at least {least:,} bytes, "
            f"but it has {size:,}: copy or download it again"
        )
