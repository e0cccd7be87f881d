"""The PyTorch release of 6DS: pictures, tables of the tasks, and a text file for each embedding.

The release came with *Exploring the Challenges towards Lifelong Fact Learning* (M. Elhoseiny et
al., ACCV 2018), by the authors of MAS among others, as ``mid_scale.zip``::

    images/{train,test}/6DS_{train,test}_<10 digits>.jpg
    NLP_feat/...txt                                  900 numbers each
    splits/4tasks_{random,semantic}/B{1..4}_facts.csv          id, type, S, P, O
    splits/4tasks_{random,semantic}/B{1..4}_{train,test}.csv   image_links, NLP_links, SPO, id,
                                                               w_s, w_p, w_o
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from avalanche_mas.benchmarks.facts.fact import Fact
from avalanche_mas.benchmarks.facts.release import STREAMS, Release, find_images

T = TypeVar("T")

_SPLITS = {"random-4": "4tasks_random", "semantic-4": "4tasks_semantic"}
_TASKS = 4
_FACT_COLUMNS = ("id", "S", "P", "O")
_IMAGE_COLUMNS = ("image_links", "NLP_links", "id", "w_s", "w_p", "w_o")


def read_csv_release(root: str | Path, features: bool = False) -> Release:
    """Read the tables; the pictures stay on disk.

    :param root: the unpacked folder ``mid_scale``.
    :param features: read the embeddings in ``NLP_feat`` too.
    :return: facts, pictures, and what else the tables say.
    :raises FileNotFoundError: if tables, pictures or embeddings are missing.
    :raises ValueError: if a table lacks a column or contradicts another, or if an embedding has
        another length than the others.
    """
    root = Path(root)
    tasks = {
        name: [_Task(root / "splits" / folder, f"B{task + 1}") for task in range(_TASKS)]
        for name, folder in _SPLITS.items()
        if (root / "splits" / folder).is_dir()
    }
    if not tasks:
        raise FileNotFoundError(
            f"{root / 'splits'} has neither 4tasks_random nor 4tasks_semantic: give the unpacked "
            "folder mid_scale of the PyTorch release of 6DS, or a folder with train_data.mat and "
            "test_data.mat, the MATLAB release"
        )
    facts = _facts([task for split in tasks.values() for task in split])
    for split in tasks.values():
        _require_all(facts, split)
    number = {identity: position for position, identity in enumerate(facts)}
    tables = next(iter(tasks.values()))  # every split has all the pictures
    rows = {
        name: list(dict.fromkeys(row for task in tables for row in task.rows(name)))
        for name in STREAMS
    }
    folders = [root / "images", root]
    images = {
        name: find_images(folders, [(row.image, number[row.identity]) for row in rows[name]])
        for name in STREAMS
    }
    links = {row.identity: row.embedding for name in reversed(STREAMS) for row in rows[name]}
    embeddings = _embeddings(root, facts, links) if features else None
    splits = {
        name: tuple(tuple(number[identity] for identity in task.facts) for task in split)
        for name, split in tasks.items()
    }
    return Release(root, tuple(facts.values()), images, embeddings, splits)


class _Row(NamedTuple):
    """One line of a table of pictures."""

    image: str
    embedding: str
    identity: int  # of its fact, in the release


class _Task:
    """The three tables of one task."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.facts = dict(_read(folder / f"{name}_facts.csv", _FACT_COLUMNS, _identified_fact))

    def rows(self, stream: str) -> list[_Row]:
        """Read the pictures, and compare them with the facts."""
        return _read(self.folder / f"{self.name}_{stream}.csv", _IMAGE_COLUMNS, self._row)

    def _row(self, row: dict[str, str]) -> _Row:
        identity = _whole(row["id"])
        masks = tuple(_mask(row[name]) for name in ("w_s", "w_p", "w_o"))
        if identity not in self.facts:
            raise ValueError(f"fact {identity} is not in {self.name}_facts.csv")
        if masks != self.facts[identity].masks:
            raise ValueError(f"the masks {masks} contradict the fact {self.facts[identity]}")
        if not row["image_links"].strip():
            raise ValueError("no image link")
        return _Row(row["image_links"].strip(), row["NLP_links"].strip(), identity)


def _read(path: Path, columns: tuple[str, ...], parse: Callable[[dict[str, str]], T]) -> list[T]:
    """Read a table as text, and parse each line; errors name the line in the file."""
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: unpack the release's splits again")
    try:
        # -sig: some editors put a byte-order mark in front
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a table: {error}") from error
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise ValueError(
            f"{path} has no column {', '.join(lacking)}; it has {', '.join(table.columns)}"
        )
    # text that only stands for a missing value; "none" and "null" may be words
    table = table.replace({"nan": "", "NaN": ""})
    found = []
    for line, row in enumerate(table[list(columns)].to_dict("records"), start=2):
        try:
            found.append(parse({str(name): value for name, value in row.items()}))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    return found


def _identified_fact(row: dict[str, str]) -> tuple[int, Fact]:
    units = [None if row[unit].strip() in ("", "*") else row[unit].strip() for unit in "SPO"]
    return _whole(row["id"]), Fact(units[0] or "", units[1], units[2])


def _whole(text: str) -> int:
    value = float(text)  # a column with a gap anywhere was written with decimals
    if not value.is_integer():  # nor is NaN or infinity
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def _mask(text: str) -> int:
    known = {"0": 0, "0.0": 0, "False": 0, "1": 1, "1.0": 1, "True": 1}
    if text.strip() not in known:
        raise ValueError(f"a mask is {text!r}: it must be 0 or 1")
    return known[text.strip()]


def _facts(tasks: list[_Task]) -> dict[int, Fact]:
    """Join the facts of all tasks, by their number in the release."""
    facts: dict[int, Fact] = {}
    for task in tasks:
        for identity, fact in task.facts.items():
            if facts.setdefault(identity, fact) != fact:
                raise ValueError(
                    f"{task.folder / task.name}_facts.csv: fact {identity} is {fact} here and "
                    f"{facts[identity]} elsewhere"
                )
    return dict(sorted(facts.items()))


def _require_all(facts: dict[int, Fact], split: list[_Task]) -> None:
    """Make sure that each fact is in a task of a split, or in several, as it was published."""
    there = Counter(identity for task in split for identity in task.facts)
    for identity, fact in facts.items():
        if not there[identity]:
            raise ValueError(f"{split[0].folder}: fact {identity}, {fact}, is in none of the tasks")


def _embeddings(root: Path, facts: dict[int, Fact], links: dict[int, str]) -> NDArray[np.float32]:
    """Read one file for each fact: all pictures of a fact have the same embedding."""
    found: list[NDArray[np.float32]] = []
    for identity, fact in facts.items():
        if identity not in links:
            raise ValueError(f"{fact} has no image, so no file with its embedding is known")
        path = root / "NLP_feat" / links[identity]
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}, the embedding of {fact}, is missing: unpack NLP_feat of the release "
                "again, or give word vectors"
            )
        if not path.read_bytes().strip():
            raise ValueError(f"{path} is empty: unpack NLP_feat of the release again")
        try:
            numbers = np.loadtxt(path, dtype=np.float32, ndmin=1, encoding="utf-8-sig")
        except ValueError as error:
            raise ValueError(f"{path} is not a list of numbers: {error}") from error
        if max(numbers.shape) != numbers.size:
            raise ValueError(f"{path} is a table of {numbers.shape} numbers: give a single list")
        numbers = numbers.ravel()
        if not np.isfinite(numbers).all():
            raise ValueError(f"{path} has NaN or infinity among its numbers")
        expected = len(found[0]) if found else len(numbers)
        if len(numbers) != expected or len(numbers) % 3 or not len(numbers):
            raise ValueError(
                f"{path} has {len(numbers)} numbers: an embedding is three vectors of the same "
                f"length{f', here of {expected // 3}' if found else ''}, one for each unit"
            )
        found.append(numbers)
    return np.stack(found)
