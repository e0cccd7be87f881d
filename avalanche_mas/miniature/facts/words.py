"""Word vectors whose geometry follows the concepts: words of one kind are close to each other."""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# kind → family → words
CONCEPTS: dict[str, dict[str, tuple[str, ...]]] = {
    "being": {
        "human": ("person",),
        "pet": ("dog", "cat"),
        "cattle": ("cow", "sheep", "horse"),
        "other animal": ("bird", "duck", "fish"),
    },
    "vehicle": {"on land": ("car", "bicycle", "cart"), "elsewhere": ("boat", "plane")},
    "plant": {"plant": ("tree",)},
    "motion": {
        "on legs": ("running", "walking", "jumping", "chasing"),
        "without legs": ("flying", "swimming", "sailing"),
        "of others": ("riding", "pushing", "pulling"),
    },
    "rest": {"rest": ("sleeping", "sitting", "eating")},
    "handling": {
        "with hands": ("holding", "using", "taking", "phoning"),
        "with the mind": ("reading", "playing"),
    },
    "sport": {
        "with a team": ("football", "basketball", "volleyball", "baseball", "hockey"),
        "alone": ("tennis", "golf"),
    },
    "thing": {
        "instrument": ("guitar", "drum"),
        "to look at": ("book", "computer", "photo"),
        "outdoors": ("umbrella", "kite", "ball", "ice"),
    },
}


def concept_vectors(dim: int = 300) -> tuple[list[str], NDArray[np.float32]]:
    """Draw a vector for each word: a part that its kind shares, one of its family, one of its own.

    :param dim: the length of the vectors.
    :return: words, and their vectors (number of words, dim).
    """
    words, rows = [], []
    for kind, families in CONCEPTS.items():
        for family, members in families.items():
            for word in members:
                words.append(word)
                rows.append(_draw(kind, dim) + _draw(family, dim) + _draw(word, dim))
    return words, np.stack(rows).astype(np.float32)


def write_word2vec(path: Path, words: list[str], rows: NDArray[np.float32]) -> None:
    """Write vectors in word2vec's binary format.

    That is a line with the number of words and the length of the vectors; then each word, a space,
    its numbers as 32-bit floats, and a line's end.
    """
    with path.open("wb") as file:
        file.write(f"{len(rows)} {rows.shape[1]}\n".encode())
        for word, row in zip(words, rows, strict=True):
            file.write(word.encode() + b" " + row.astype("<f4").tobytes() + b"\n")


def _draw(name: str, dim: int) -> NDArray[np.float64]:
    """Draw a vector of length about 1 that belongs to ``name``, whatever else is drawn."""
    rng = np.random.default_rng(zlib.crc32(f"concept {name}".encode()))
    vector: NDArray[np.float64] = rng.standard_normal(dim) / np.sqrt(dim)
    return vector
