"""Writes down, once, what a model says about each sample of a dataset, to look it up later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from avalanche.benchmarks.utils import DataAttribute
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from avalanche_mas.plugins.base.eval_mode import in_eval_mode

INDEX = "recorded_index"
"""The data attribute that tells which sample a sample is."""

_DRAWN_TWICE = 64  # samples, to find out whether they are drawn at random


def with_index(dataset: Any) -> Any:
    """A dataset whose samples also say which one they are.

    The index comes before all other attributes that are part of a sample, since Avalanche reads
    labels from the front and the task label from the end of a mini-batch.

    :param dataset: an ``AvalancheDataset``.
    :return: a new one with the data attribute :data:`INDEX`.
    """
    index = DataAttribute(range(len(dataset)), INDEX, use_in_getitem=True)
    indexed = dataset.update_data_attribute(INDEX, index)
    indexed._data_attributes.move_to_end(INDEX, last=False)
    return indexed


def take_index(batch: list[Any], dataset: Any) -> Any:
    """Takes the index out of a mini-batch, which is then as it would be without one.

    :param batch: its fields; changed.
    :param dataset: the dataset with an index that it is drawn from.
    """
    attributes = dataset._data_attributes.values()
    return batch.pop(-sum(attribute.use_in_getitem for attribute in attributes))


def check_index(loader: Any, remedy: str) -> None:
    """Checks that everything that will be drawn has been recorded.

    :param loader: Avalanche's or PyTorch's data loader.
    :param remedy: what to do about it.
    :raises ValueError: if another plugin has brought in other samples.
    """
    for dataset in getattr(loader, "datasets", None) or [loader.dataset]:
        if not hasattr(dataset, INDEX):
            raise ValueError(
                f"mini-batches also hold {len(dataset)} samples that were not recorded before "
                f"training, because another plugin (replay?) has brought them in. {remedy}"
            )


def record(
    model: nn.Module,
    dataset: Any,
    observe: Callable[[Any], dict[str, Tensor]],
    *,
    device: torch.device,
    batch_size: int,
    num_workers: int = 0,
    verbose: bool = False,
) -> dict[str, Tensor]:
    """What ``observe`` says about each sample, with the model in eval mode and without a trace.

    :param model: the model that ``observe`` runs; it and the random number generators are
        afterwards as they were, bit for bit.
    :param dataset: a dataset with an index, see :func:`with_index`.
    :param observe: x of a batch → tensors with one row for each sample, by name.
    :param device: where x is sent, and the rows are kept.
    :param batch_size: samples per batch.
    :param num_workers: loader processes.
    :param verbose: show a progress bar.
    :return: the same tensors for all samples; row i is the sample of index i.
    :raises ValueError: if the samples are drawn at random, so that they cannot be recorded.
    """
    rows = max(getattr(dataset, INDEX)) + 1
    tables: dict[str, Tensor] = {}
    check_repeatable(model, dataset)
    with in_eval_mode(model), torch.no_grad():
        loader = DataLoader(
            dataset, batch_size, num_workers=num_workers, collate_fn=dataset.collate_fn
        )
        for batch in tqdm(loader, desc="recording", disable=not verbose):
            fields = list(batch)
            index = take_index(fields, dataset).to(device)
            for name, values in observe(fields[0].to(device)).items():
                if name not in tables:
                    tables[name] = values.new_zeros(rows, *values.shape[1:])
                tables[name][index] = values
    return tables


def check_repeatable(model: nn.Module, dataset: Any) -> None:
    """Draws some samples twice, without a trace in the random number generators.

    :param model: any model; it is left as it is.
    :param dataset: an ``AvalancheDataset``.
    :raises ValueError: if they differ.
    """
    step = max(1, len(dataset) // _DRAWN_TWICE)
    chosen = range(0, len(dataset), step)[:_DRAWN_TWICE]
    with in_eval_mode(model):
        first, second = (dataset.collate_fn([dataset[i] for i in chosen])[0] for _ in range(2))
    if not torch.equal(first, second):
        raise ValueError(
            "the training transforms are random: a sample is another one each time it is drawn, so "
            "the old model's outputs for it cannot be recorded. Use targets='recomputed', which "
            "keeps the old model and asks it about each mini-batch."
        )
