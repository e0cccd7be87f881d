"""Pictures of facts as streams: of 6DS where it is given, or else of the drawn miniature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import CLScenario
from avalanche.benchmarks.scenarios import EagerCLStream
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, make_avalanche_dataset
from filelock import FileLock
from torch.utils.data import DataLoader, TensorDataset

from avalanche_mas.benchmarks.fact_benchmark import (
    FactBenchmark,
    FactExperience,
    fact_learning,
    fact_transforms,
    read_release,
)
from avalanche_mas.benchmarks.facts import (
    FactImage,
    Release,
    UnknownWordsError,
    load_word_vectors,
    sports_facts,
)
from avalanche_mas.miniature.facts import WORD_VECTORS, fact_miniature

from ..runs.cache import cache_folder
from ..training.features import frozen_features
from .cell import SUBSET, FactCell, FactData


def located(data: FactData) -> tuple[Path, Path | None]:
    """Find the release and the file of word vectors, and draw the miniature if it is not there yet.

    :raises FileNotFoundError: if a folder or a file is missing.
    """
    if data.root is not None:
        return Path(data.root), None if data.vectors is None else Path(data.vectors)
    root = cache_folder(f"facts-{data.most}")
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):  # other runs may need it at the same time
        fact_miniature(root, most=data.most)
    return root, root / WORD_VECTORS


def check(data: FactData, split: str, seeds: tuple[int, ...], image_size: int) -> None:
    """Read all but the pictures, so that what is missing is missed before any training.

    :raises FileNotFoundError: if a folder or a file is missing.
    :raises ValueError: if one is malformed, or cannot be split in this way.
    """
    root, vectors = located(data)
    if vectors is None:
        read_release(root, features=True)
    words = None if vectors is None else load_word_vectors(vectors)
    try:
        for seed in seeds:
            fact_learning(root, words, split, seed, first=_leading(root, split), size=image_size)
    except UnknownWordsError as error:
        raise ValueError(str(error)) from error


def fact_streams(cell: FactCell) -> CLScenario:
    """Make the streams of a cell.

    :return: ``train`` and ``test``, which holds validation pictures if the cell asks for them; for
        clusters also ``sports_train`` and ``sports_test``, one experience each, of the facts of a
        person playing sports, which belong to the first task mostly.
    """
    root, vectors = located(cell.data)
    leading = _leading(root, cell.split)
    size = cell.training.image_size
    made = fact_learning(root, vectors, cell.split, cell.seed, first=leading, size=size)
    if cell.validation:
        made = FactBenchmark(
            hold_out(made.release, cell.validation),
            made.embeddings.numpy(),
            made.tasks,
            *fact_transforms(size),
        )
    streams = []
    for name in ("train", "test"):
        datasets = [experience.dataset for experience in made.streams[name]]
        facts = [experience.fact_numbers for experience in made.streams[name]]
        kept = _kept(datasets, cell)
        streams.append(_stream(name, kept, facts, made))
        if leading:
            numbers = made.release.numbers(leading)
            (subset,) = _kept([made.subset(leading, name)], cell)
            streams.append(_stream(f"{SUBSET}_{name}", [subset], [numbers], made))
    scenario = CLScenario(streams)
    for stream in streams:  # so that from one stream's experience the other's can be found
        stream.benchmark = scenario
    return scenario


def hold_out(release: Release, share: float) -> Release:
    """Set a share of each fact's training pictures apart; they take the place of the test's.

    :param release: facts and pictures.
    :param share: between 0 and 1; of each fact one picture at least.
    """
    seen: dict[int, int] = {}
    parts: dict[str, list[FactImage]] = {"train": [], "test": []}
    every = round(1 / share)
    for image in release.images["train"]:  # in no order that means anything
        seen[image.fact] = seen.get(image.fact, -1) + 1
        parts["train" if seen[image.fact] % every else "test"].append(image)
    return replace(release, images={name: tuple(images) for name, images in parts.items()})


def _leading(root: Path, split: str) -> list[Any]:
    """The facts whose task comes first, and that are followed through the stream."""
    if not split.startswith("clusters"):
        return []
    return sports_facts(read_release(root, features=False).facts)


def _stream(
    name: str,
    datasets: list[AvalancheDataset[Any]],
    facts: list[tuple[int, ...]],
    made: FactBenchmark,
) -> EagerCLStream[FactExperience]:
    return EagerCLStream(
        name,
        [
            FactExperience(
                dataset,
                i,
                numbers,
                tuple(made.facts[number] for number in numbers),
            )
            for i, (dataset, numbers) in enumerate(zip(datasets, facts, strict=True))
        ],
    )


def _kept(datasets: list[AvalancheDataset[Any]], cell: FactCell) -> list[AvalancheDataset[Any]]:
    """What is read once and kept: drawn pictures, or what a frozen part makes of any.

    They are not varied in training: each is the same in every epoch.
    """
    pretrained = cell.training.network == "pretrained"
    if cell.data.root is not None and not pretrained:
        return datasets
    return [_in_memory(dataset, pretrained) for dataset in datasets]


def _in_memory(dataset: AvalancheDataset[Any], pretrained: bool) -> AvalancheDataset[Any]:
    dataset = dataset.eval()
    batches = list(DataLoader(dataset, batch_size=64))
    pictures, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return make_avalanche_dataset(
        TensorDataset(frozen_features(pictures) if pretrained else pictures, targets),
        data_attributes=[DataAttribute(list(dataset.fact_numbers), "fact_numbers")],
    )
