"""What Avalanche's EWCPlugin does otherwise than Kirkpatrick et al., PNAS 2017."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from avalanche.training.plugins import EWCPlugin as AvalancheEWC
from torch import Tensor, nn

from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.evaluation import method_memory
from avalanche_mas.plugins import EWCPlugin

from ..digits.cell import DigitsTraining
from ..training.samples import tensors
from .parts import in_order, learn, measure, single_head, total
from .row import Pair, difference

_TESTS = "plugins/test_ewc.py"
_MEASURED = 320  # images, since the naive way below goes through them one by one


@difference(
    "EWC",
    "ΣF of the true labels, measured in batches of 32, over the mean of single samples'",
    f"{_TESTS}::test_avalanches_fisher_depends_on_the_batch_size",
)
def batches_shrink_fisher(training: DigitsTraining, seed: int) -> Pair:
    """The square of a batch's mean gradient is far below the mean of the samples' squares.

    So λ means something else for every batch size.
    """
    model, experience = _trained(training, seed)
    x, y = tensors(experience)
    exact = _naive_fisher(model, ((sample, label, 1.0) for sample, label in zip(x, y, strict=True)))
    theirs, ours = AvalancheEWC(1.0), EWCPlugin(fisher="empirical")
    return _over(exact, theirs, ours, model, training, experience)


@difference(
    "EWC",
    "ΣF measured by single samples, over the Fisher information (its expectation by the model)",
    "comparisons/test_differences.py::test_numbers",
)
def labels_are_no_expectation(training: DigitsTraining, seed: int) -> Pair:
    """Avalanche takes the true labels: the better they are fitted, the smaller is F.

    That too is an option here (`fisher="empirical"`); the expectation needs no labels.
    """
    model, experience = _trained(training, seed)
    x, _ = tensors(experience)
    with torch.no_grad():
        shares = model(x).softmax(dim=1)
    weighed = (
        (sample, label, float(share))
        for sample, of_sample in zip(x, shares, strict=True)
        for label, share in enumerate(of_sample)
    )
    exact = _naive_fisher(model, weighed)
    single = replace(training, batch_size=1)
    return _over(exact, AvalancheEWC(1.0), EWCPlugin(), model, single, experience)


@difference(
    "EWC",
    "kept after five tasks, in multiples of the network",
    f"{_TESTS}::test_memory_is_constant_where_avalanches_grows",
)
def memory_grows(training: DigitsTraining, seed: int) -> Pair:
    """An F and a θ* for each task, while the sum of all penalties is one penalty and a constant."""
    stream = permuted_digits(5, seed).train_stream
    brief = replace(training, epochs=1)

    def kept(plugin: Any) -> float:
        model = single_head(training, seed)
        size = sum(parameter.nbytes for parameter in model.parameters())
        return method_memory(learn(model, brief, stream, plugin)) / size

    return Pair(kept(AvalancheEWC(1.0)), kept(EWCPlugin()))


def _trained(training: DigitsTraining, seed: int) -> tuple[nn.Module, Any]:
    (experience,) = permuted_digits(1, seed).train_stream
    model = single_head(training, seed)
    learn(model, training, [experience])
    x, y = tensors(experience)
    return model, in_order(x[:_MEASURED], y[:_MEASURED])


def _over(
    exact: float,
    theirs: Any,
    ours: Any,
    model: nn.Module,
    training: DigitsTraining,
    experience: Any,
) -> Pair:
    """ΣF as both plugins measure it, over the right one."""
    for plugin in (theirs, ours):
        measure(copy.deepcopy(model), training, experience, plugin)
    return Pair(total(theirs.importances[0]) / exact, total(ours.importance) / exact)


def _naive_fisher(model: nn.Module, weighed: Iterable[tuple[Tensor, Any, float]]) -> float:
    """Σ over the parameters of the mean over the samples of weight · (∂ log p(label|x)/∂θ)²."""
    parameters = list(model.parameters())
    result, samples = 0.0, 0.0
    for x, label, weight in weighed:
        scores = model(x[None]).log_softmax(dim=1)
        gradients = torch.autograd.grad(scores[0, label], parameters)
        result += weight * sum(float(gradient.square().sum()) for gradient in gradients)
        samples += weight
    return result / samples
