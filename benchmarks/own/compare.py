"""Trains several methods on one benchmark, with λ chosen for each by one protocol."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from avalanche.benchmarks import CLScenario
from torch import nn
from torch.optim import SGD, Optimizer

from avalanche_mas.evaluation import AccuracyMatrix, ErrorMatrix
from avalanche_mas.evaluation.accuracy_matrix import Matrix
from avalanche_mas.plugins.registry import METHODS, Method

from ..report.formatter import listed
from ..runs.executors import Executor, start
from ..runs.runner import Runner
from ..runs.store import CellStore
from ..training.result import StreamResult
from ..training.selection import Choice, choose_lambdas, published_strength
from .cell import OwnCell, Setup
from .comparison import Comparison

GRID = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4)
"""λ to begin with, the same for all methods."""

_EXTENSIONS = 3  # decades added at most, while the best λ lies at the grid's edge

Strengths = float | Sequence[float]
"""A λ, or a grid of them."""


def sgd(parameters: Iterable[nn.Parameter], lr: float = 0.01, momentum: float = 0.9) -> Optimizer:
    """The optimizer of those who name none."""
    return SGD(parameters, lr=lr, momentum=momentum)


def compare_methods(
    benchmark: CLScenario | Callable[..., CLScenario],
    make_model: Callable[[], nn.Module],
    methods: Sequence[str] = ("finetuning", "joint", "MAS", "EWC", "SI", "LwF"),
    *,
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = sgd,
    lambdas: Literal["grid", "published"] | Strengths | Mapping[str, Strengths] = "grid",
    seeds: int | Sequence[int] = 5,
    epochs: int = 5,
    batch_size: int = 32,
    criterion: nn.Module | None = None,
    metric: Callable[..., Matrix] = AccuracyMatrix,
    classifier: str | None = None,
    validation: float = 0.2,
    selection_seeds: Sequence[int] = (100,),
    device: str = "cpu",
    workers: int | Executor = 1,
    folder: str | Path | None = None,
    verbose: bool = True,
) -> Comparison:
    """Compare methods on a benchmark of one's own. ::

        comparison = compare_methods(benchmark, make_model, ("finetuning", "MAS", "EWC"))
        print(comparison.table())
        comparison.save("results/mine")

    λ is chosen for each method by one protocol: on whole streams, with seeds that are not reported,
    by the best mean on validation samples, which are held out of the training samples. The grid
    is widened by up to three decades while the best λ lies at its edge. The reported runs train on
    all training samples and are measured on the stream ``test``, which the choice never sees.

    :param benchmark: Avalanche's, with a stream ``test``; or a function that makes it, which is
        given the ``seed`` if it takes one. If it has a stream ``valid``, λ is chosen by that.
    :param make_model: makes the untrained model; called after seeding.
    :param methods: names in :data:`avalanche_mas.plugins.registry.METHODS`, which
        :func:`avalanche_mas.plugins.registry.register` adds to.
    :param make_optimizer: makes the optimizer of the model's parameters; by default SGD with
        learning rate 0.01 and momentum 0.9.
    :param lambdas: ``"grid"``: 10⁻², …, 10⁴ for all; ``"published"``: what the methods' authors
        took, or 1; a grid for all, or for each method that is named. A single λ is taken as it is.
    :param seeds: how many are reported, or which.
    :param epochs: passes over each experience.
    :param batch_size: samples in a step.
    :param criterion: the loss; None: cross-entropy.
    :param metric: what is measured; for a regression
        :class:`~avalanche_mas.evaluation.ErrorMatrix`, or a partial of it.
    :param classifier: dotted name of the model's last module, for methods that must know it.
    :param validation: share of the training samples that λ is chosen by.
    :param selection_seeds: the seeds that λ is chosen with.
    :param device: where to train.
    :param workers: how many processes of this machine, one core each; 1: this process. Or an
        executor that was started, such as Ray's. A script that asks for more than one must do so
        under ``if __name__ == "__main__":``. What cannot be sent to other processes, such as
        functions of a notebook, runs in this one, with a warning.
    :param folder: where finished runs are kept: the same call goes on where it stopped. A run is
        known by its numbers, and by a fingerprint of the model, the optimizer, the methods and the
        data.
    :param verbose: whether to show how far it is.
    :return: the results.
    :raises TypeError: if the benchmark, the model or the optimizer is none.
    :raises ValueError: if an argument does not fit, before anything is trained.
    """
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    _check_numbers(seeds, selection_seeds, epochs, batch_size, validation)
    if not methods or isinstance(methods, str):
        raise ValueError(f"methods is {methods!r}: give a list of names, such as ['MAS', 'EWC']")
    chosen = {name: METHODS[name] for name in methods}
    grids = _grids(chosen, lambdas)
    for name, grid in grids.items():
        for lam in grid:
            chosen[name].plugins(lam, classifier=classifier)  # refuses what is out of range
    setup = Setup(
        benchmark,
        make_model,
        make_optimizer,
        chosen,
        criterion or nn.CrossEntropyLoss(),
        metric,
        classifier,
    )
    error = isinstance(metric(stream="test"), ErrorMatrix)
    common = (epochs, batch_size, device, setup.fingerprint(seeds[0]))
    first = setup.make_benchmark(seeds[0])

    def cell(method: str, lam: float | None, seed: int) -> OwnCell:
        return OwnCell(method, lam, seed, 0.0, *common)

    def judges(method: str, lam: float) -> list[OwnCell]:
        return [replace(cell(method, lam, s), validation=validation) for s in selection_seeds]

    def score(result: StreamResult) -> float:
        return -result.final_accuracy if error else result.final_accuracy

    executor, ours = _executor(workers, setup)
    with (
        TemporaryDirectory() if folder is None else nullcontext(folder) as place,
        closing(executor) if ours else nullcontext(),
    ):
        store = CellStore(Path(place), {"methods": list(chosen)}, StreamResult)
        with Runner(setup.run_cell, store, executor, verbose) as run_cells:
            choices = choose_lambdas(grids, _EXTENSIONS, judges, run_cells, score)
            strengths = {name: choices[name].lam if name in choices else None for name in chosen}
            tests = run_cells(
                "test", [cell(name, lam, seed) for name, lam in strengths.items() for seed in seeds]
            )
    return Comparison(
        runs=tuple(tests.items()),
        choices=choices,
        tasks=tuple(
            str(getattr(experience, "task_name", i + 1))
            for i, experience in enumerate(first.train_stream)
        ),
        error=error,
        remarks=(_how(choices, grids, selection_seeds), *_diverged(tests)),
        origin=store.origin(),
    )


def _check_numbers(
    seeds: Sequence[int],
    selection_seeds: Sequence[int],
    epochs: int,
    batch_size: int,
    validation: float,
) -> None:
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: give at least 1")
    for name, given in {"seeds": seeds, "selection_seeds": selection_seeds}.items():
        if not given:
            raise ValueError(f"{name} is empty: give at least one")
    if both := set(seeds) & set(selection_seeds):
        raise ValueError(
            f"seeds and selection_seeds share {listed(sorted(both))}: λ must be chosen with seeds "
            "that are not reported"
        )
    if not 0 < validation < 1:
        raise ValueError(f"validation is {validation}: give a share of the samples, above 0")


def _grids(
    methods: Mapping[str, Method],
    lambdas: str | Strengths | Mapping[str, Strengths],
) -> dict[str, Sequence[float]]:
    """The λ to begin with, for each method that has one."""
    protecting = [name for name, method in methods.items() if method.plugin]
    by_name: Mapping[str, Any]
    if isinstance(lambdas, Mapping):
        if wrong := [name for name in lambdas if name not in protecting]:
            raise ValueError(
                f"lambdas names {listed(wrong)}, but the methods with a λ are {listed(protecting)}"
            )
        by_name = lambdas
    elif lambdas == "grid":
        by_name = {}
    elif lambdas == "published":
        by_name = {name: published_strength(name) for name in protecting}
    elif isinstance(lambdas, str):
        raise ValueError(
            f"lambdas is {lambdas!r}: give 'grid', 'published', numbers, or numbers by method"
        )
    else:
        by_name = dict.fromkeys(protecting, lambdas)
    grids: dict[str, Sequence[float]] = {}
    for name in protecting:
        given = by_name.get(name, GRID)
        grid = np.ravel(given).astype(float).tolist()
        if not grid or not all(map(isfinite, grid)) or (len(grid) > 1 and min(grid) <= 0):
            raise ValueError(f"lambdas of {name} are {given}: give finite numbers above 0")
        grids[name] = grid
    return grids


def _executor(workers: int | Executor, setup: Setup) -> tuple[Executor, bool]:
    """What runs the cells, and whether it is to be closed here."""
    if not isinstance(workers, int):
        return workers, False
    if workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1")
    if workers > 1 and (reason := unsendable(setup)):
        warnings.warn(
            f"cells cannot be sent to other processes, so they run in this one: {reason}",
            stacklevel=3,
        )
        workers = 1
    return start("local", workers), True


def unsendable(setup: Setup) -> str | None:
    """Why other processes cannot get what the user has given; None: they can."""
    try:
        sent = pickle.dumps(setup)
    except Exception as error:  # whatever an object raises that is not made for it
        return str(error)
    if b"__main__" in sent and not hasattr(sys.modules["__main__"], "__file__"):
        return "functions and classes that were written at a prompt are in no file"
    return None


def _how(
    choices: Mapping[str, Choice], grids: Mapping[str, Sequence[float]], seeds: Sequence[int]
) -> str:
    searched = [name for name in choices if len(grids[name]) > 1]
    given = [name for name in choices if name not in searched]
    said = []
    if searched:
        said.append(
            f"λ of {listed(searched)}: chosen by the mean over all experiences on validation "
            f"samples, with the seeds {listed(seeds)}, which are not reported."
        )
    if given:
        said.append(f"λ of {listed(given)}: not chosen here, but given.")
    return " ".join(said) or "None of the methods has a λ."


def _diverged(tests: Mapping[OwnCell, StreamResult]) -> list[str]:
    found = [f"{cell.method} (seed {cell.seed})" for cell, run in tests.items() if run.diverged]
    return [f"Diverged: {listed(found)}."] if found else []
