"""Write the miniature of 6DS."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from avalanche_mas.benchmarks.facts.fact import Fact
from avalanche_mas.benchmarks.facts.splits import Task, cluster_split, random_split
from avalanche_mas.benchmarks.facts.word_vectors import embed_facts
from avalanche_mas.miniature.canvas import save_picture
from avalanche_mas.miniature.facts.scenes import FACTS, draw_fact
from avalanche_mas.miniature.facts.words import concept_vectors, write_word2vec
from avalanche_mas.miniature.folder import fill

MARKER = "fact_miniature.json"
WORD_VECTORS = "word_vectors.bin"
"""The file of word vectors that is written beside the drawn release."""
_NAMES = ("NLP_feat", "images", "splits", WORD_VECTORS)
_LEAST = {"most": 6, "size": 16, "seed": 0}
_VERSION = 1  # of the drawings: a folder drawn by another version is drawn again


def fact_miniature(
    root: str | os.PathLike[str],
    *,
    most: int = 96,
    size: int = 64,
    seed: int = 0,
    verbose: bool = True,
) -> Path:
    """Write drawn scenes of 51 facts in the layout of the PyTorch release of 6DS.

    The numbers of pictures have a long tail: the fact of rank r has most / √r for training, and at
    least 6; half as many, rounded up, are for tests. One test picture is a ``.png`` although its
    link says ``.jpg``, as three of 6DS are. ``word_vectors.bin`` has vectors of all the words in
    word2vec's binary format. The same arguments give the same bytes.

    :param root: a new or empty folder, or a miniature: this very one is left as it is, and another
        is replaced.
    :param most: training pictures of the most frequent fact.
    :param size: the side of the pictures in pixels.
    :param seed: draws the pictures, which facts are frequent, and the published split.
    :param verbose: show a progress bar.
    :return: ``root``.
    :raises ValueError: if an argument is out of its range.
    :raises FileExistsError: if ``root`` holds anything that is not such a miniature.
    """
    settings = {"most": most, "size": size, "seed": seed, "version": _VERSION}
    draw = partial(_write, most=most, size=size, seed=seed, verbose=verbose)
    return fill(root, MARKER, _NAMES, settings, _LEAST, draw)


def _write(root: Path, *, most: int, size: int, seed: int, verbose: bool) -> None:
    facts = sorted(FACTS, key=str)
    words, rows = concept_vectors()
    write_word2vec(root / WORD_VECTORS, words, rows)
    embeddings = embed_facts(facts, dict(zip(words, rows, strict=True)))
    links = _write_embeddings(root / "NLP_feat", embeddings)
    rng = np.random.default_rng(seed)
    train = np.maximum(6, np.round(most / np.sqrt(1 + rng.permutation(len(facts)))).astype(int))
    counts = {"train": train, "test": -(-train // 2)}
    splits = {
        "4tasks_random": random_split(len(facts), 4, seed),
        "4tasks_semantic": cluster_split(embeddings, 4, seed),
    }
    for stream, count in counts.items():
        # photographs of unlike sources come in a mixed order
        order = rng.permutation(np.repeat(np.arange(len(facts)), count)).tolist()
        images = []
        bar = tqdm(order, f"Drawing pictures to {stream}", unit="image", disable=not verbose)
        for i, number in enumerate(bar, start=1):
            link = f"{stream}/6DS_{stream}_{i:010d}.jpg"
            path = root / "images" / link
            if (stream, i) == ("test", 2):
                path = path.with_suffix(".png")
            picture = np.random.default_rng([seed, stream == "train", i])
            save_picture(path, draw_fact(facts[number], picture, size))
            images.append((link, number))
        for name, tasks in splits.items():
            _write_images(root / "splits" / name, stream, tasks, facts, images, links)
    for name, tasks in splits.items():
        _write_facts(root / "splits" / name, tasks, facts)


def _write_embeddings(folder: Path, embeddings: NDArray[np.float32]) -> list[str]:
    """Write a text file for each fact, and return their links."""
    (folder / "unique_facts").mkdir(parents=True)
    links = [f"unique_facts/6DS_fact_{number:03d}.txt" for number in range(len(embeddings))]
    for link, row in zip(links, embeddings, strict=True):
        np.savetxt(folder / link, row, fmt="%.6f")
    return links


def _write_images(
    folder: Path,
    stream: str,
    tasks: Sequence[Task],
    facts: Sequence[Fact],
    images: Sequence[tuple[str, int]],
    links: Sequence[str],
) -> None:
    """Write the tables of one stream's pictures, one for each task."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    for task, numbers in enumerate(tasks, start=1):
        table = pd.DataFrame(
            [
                (link, links[number], str(facts[number]), number + 1, *facts[number].masks)
                for link, number in images
                if number in numbers
            ],
            columns=["image_links", "NLP_links", "SPO", "id", "w_s", "w_p", "w_o"],
        )
        table.to_csv(folder / f"B{task}_{stream}.csv", index=False)


def _write_facts(folder: Path, tasks: Sequence[Task], facts: Sequence[Fact]) -> None:
    """Write the tables of the facts; the release counts them from 1."""
    import pandas as pd

    for task, numbers in enumerate(tasks, start=1):
        table = pd.DataFrame(
            [(number + 1, facts[number].kind, *facts[number].units) for number in numbers],
            columns=["id", "type", "S", "P", "O"],
        )
        table.to_csv(folder / f"B{task}_facts.csv", index=False)
