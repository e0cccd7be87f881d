"""What Avalanche's MASPlugin does otherwise than the paper's Eq. 2: Ω."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_mas import estimate_importance
from avalanche_mas.benchmarks import permuted_digits, split_digits

from ..digits.cell import DigitsTraining
from ..digits.strategy import make_strategy
from ..training.samples import accuracy, outputs_for, tensors
from .parts import (
    MAS_DEFECTS,
    PIXEL_WEIGHTS,
    SIDE,
    MultiHead,
    Watch,
    batchnorm_of,
    both_mas,
    head,
    in_order,
    learn,
    measure,
    noise,
    omega,
    relative,
    single_head,
    sorted_by_class,
    total,
)
from .row import difference


@difference(
    "MAS",
    "BatchNorm's running mean moves while Ω is measured, relative (%)",
    f"{MAS_DEFECTS}::test_batchnorm_statistics_move_while_measuring",
)
@both_mas
def batchnorm_moves(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """Measured in train mode, the network is no longer the one that was trained."""
    before, after, _ = _damage(plugin_type, training, seed)
    return 100 * relative(batchnorm_of(after)[0], batchnorm_of(before)[0])


@difference(
    "MAS",
    "test accuracy that is lost while Ω is measured on samples sorted by class (points)",
    "comparisons/test_differences.py::test_numbers",
)
@both_mas
def measuring_costs_accuracy(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """`nc_benchmark` sorts samples by class, so the statistics become those of the last class."""
    before, after, (x, y) = _damage(plugin_type, training, seed)
    return 100 * (accuracy(outputs_for(before, x), y) - accuracy(outputs_for(after, x), y))


@difference(
    "MAS",
    "two measurements of the same network, which has dropout, differ by (% of ΣΩ)",
    f"{MAS_DEFECTS}::test_dropout_makes_importance_random",
)
@both_mas
def dropout_draws(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """Importance becomes a random number."""
    (experience,) = permuted_digits(1, seed).train_stream
    model = single_head(training, seed, nn.Dropout(0.5))
    learn(model, training, [experience])

    runs = []
    for draw in (0, 1):
        torch.manual_seed(draw)
        runs.append(_measured(plugin_type(), model, training, experience))
    gap = sum(float((runs[0][n] - runs[1][n]).abs().sum()) for n in runs[0])
    return 100 * gap / total(runs[0])


@difference(
    "MAS",
    "ΣΩ measured in batches of 32, over the mean of single samples' (Eq. 2)",
    f"{MAS_DEFECTS}::test_importance_depends_on_the_batch_size",
)
@both_mas
def batches_shrink_importance(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """Gradients of opposite signs cancel in a batch's mean.

    So λ means something else for every batch size.
    """
    (experience,) = permuted_digits(1, seed).train_stream
    model = _trained(training, seed, experience)
    exact = total(estimate_importance(model, tensors(experience)[0], engine="loop"))
    return total(_measured(plugin_type(), model, training, experience)) / exact


@difference(
    "MAS",
    "ΣΩ of samples sorted by class, over that of the same samples mixed",
    f"{MAS_DEFECTS}::test_importance_depends_on_the_order",
)
@both_mas
def order_changes_importance(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """Less cancels where a batch is of one class: importance depends on how data are stored."""
    (mixed,) = permuted_digits(1, seed).train_stream
    model = _trained(training, seed, mixed)
    orders = (sorted_by_class(mixed), mixed)

    a, b = (total(_measured(plugin_type(), model, training, order)) for order in orders)
    return a / b


@difference(
    "MAS",
    "Ω of weights that only the first of five tasks uses, after all five over after the first",
    f"{MAS_DEFECTS}::test_the_importance_of_an_unused_old_head_decays",
)
@both_mas
def importance_decays(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """The paper adds the tasks' importances up; halved with each task, the first is forgotten."""
    (experience,) = permuted_digits(1, seed).train_stream
    x, y = tensors(experience)
    seen = torch.arange(SIDE) < SIDE // 2  # the left half by the first task, the right by others
    stream = [in_order(x * half, y) for half in (seen, *[~seen] * 4)]

    plugin, model = plugin_type(), single_head(training, seed)
    after = Watch("after_training", lambda strategy: omega(plugin.importance)[PIXEL_WEIGHTS])
    learn(model, training, stream, plugin, after)
    first, *_, last = (found.unflatten(1, (SIDE, SIDE))[..., seen].sum() for found in after.seen)
    return float(last / first)


@difference(
    "MAS",
    "Ω of the second task's head if the stream was evaluated first, over the head's own Ω",
    f"{MAS_DEFECTS}::test_a_new_head_is_halved_by_an_evaluation",
)
@both_mas
def evaluation_halves_a_head(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """Looking at a network should not change what it learns next."""
    benchmark = split_digits(5, seed)

    plugin, fresh, model = plugin_type(), plugin_type(), MultiHead(training, seed)
    made = make_strategy(model, training, plugin)
    made.eval(benchmark.test_stream[:2])
    made.train(benchmark.train_stream[:2])
    measure(model, training, benchmark.train_stream[1], fresh)
    seen, own = (omega(p.importance)[head(1)].sum() for p in (plugin, fresh))
    return float(seen / own)


def _trained(training: DigitsTraining, seed: int, experience: Any) -> nn.Module:
    model = single_head(training, seed)
    learn(model, training, [experience])
    return model


def _measured(
    plugin: Any, model: nn.Module, training: DigitsTraining, on: Any
) -> dict[str, Tensor]:
    """Ω of a copy of the model."""
    measure(copy.deepcopy(model), training, on, plugin)
    return omega(plugin.importance)


def _damage(
    plugin_type: Any, training: DigitsTraining, seed: int
) -> tuple[nn.Module, nn.Module, Any]:
    """A network with BatchNorm before and after Ω is measured, and a test experience."""
    benchmark = permuted_digits(1, seed)
    experience = sorted_by_class(benchmark.train_stream[0])
    model = single_head(training, seed, *noise(training))
    learn(model, training, [experience])
    before = copy.deepcopy(model)
    measure(model, training, experience, plugin_type())
    return before, model, tensors(benchmark.test_stream[0])
