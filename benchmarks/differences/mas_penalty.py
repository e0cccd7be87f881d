"""What Avalanche's MASPlugin does otherwise than the paper's Eq. 3: the penalty."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from avalanche.training.plugins import MASPlugin as AvalancheMAS
from avalanche.training.utils import ParamData
from torch import Tensor, nn

from avalanche_mas import MASPlugin, estimate_importance
from avalanche_mas.benchmarks import permuted_digits, split_digits
from avalanche_mas.evaluation import method_memory

from ..digits.cell import DigitsTraining
from ..training.samples import tensors
from .parts import (
    MAS_DEFECTS,
    MultiHead,
    Watch,
    both_mas,
    head,
    in_order,
    learn,
    omega,
    relative,
    single_head,
    weights,
)
from .row import Pair, difference


@difference(
    "MAS",
    "change in the first experience, ΣΩΔθ², with Ω known beforehand and λ = 1e6, over finetuning's",
    f"{MAS_DEFECTS}::test_the_first_experience_is_never_protected",
)
def first_experience_is_free(training: DigitsTraining, seed: int) -> Pair:
    """A pretrained network, whose importance is known, is trained as if nothing was known."""
    old, new = permuted_digits(2, seed).train_stream
    pretrained = single_head(training, seed)
    learn(pretrained, training, [old])
    known, before = estimate_importance(pretrained, tensors(old)[0]), weights(pretrained)

    def change(*plugins: Any) -> float:
        model = copy.deepcopy(pretrained)
        learn(model, training, [new], *plugins)
        return _quadratic(known, weights(model), before)

    theirs = AvalancheMAS(1e6)
    theirs.importance, theirs.params = (
        {name: ParamData(name, value.shape, init_tensor=value) for name, value in part.items()}
        for part in (known, before)
    )
    finetuned = change()
    ours = MASPlugin(1e6, initial=known)
    return Pair(change(theirs) / finetuned, change(ours) / finetuned)


@difference(
    "MAS",
    "penalty after the model was wrapped by torch.compile, over the penalty before",
    f"{MAS_DEFECTS}::test_wrapping_the_model_drops_the_penalty",
)
@both_mas
def wrapping_drops_the_penalty(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """Parameters are found by names, which get a prefix: old tasks silently lose all protection."""
    found = [
        _first_penalty(plugin_type(1.0), training, seed, wrap)[0]
        for wrap in (lambda model: torch.compile(model, backend="eager"), lambda model: model)
    ]
    return found[0] / found[1]


@difference(
    "MAS",
    "penalty over λ/2 ΣΩ(θ−θ*)² (Eq. 3), each with its own Ω",
    "comparisons/test_differences.py::test_numbers",
)
@both_mas
def penalty_is_doubled(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """Avalanche's has no ½, as the authors' code: its λ has twice the effect of the paper's λ."""
    penalty, equation = _first_penalty(plugin_type(1.0), training, seed, lambda model: model)
    return penalty / equation


@difference(
    "MAS",
    "kept beside a network whose first layer is frozen (KB)",
    f"{MAS_DEFECTS}::test_frozen_parameters_are_stored",
)
@both_mas
def frozen_parameters_are_stored(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """With a frozen backbone nearly all of it is wasted."""
    (experience,) = permuted_digits(1, seed).train_stream

    model = single_head(training, seed)
    model.get_submodule("features").requires_grad_(False)
    return method_memory(learn(model, training, [experience], plugin_type())) / 1000


@difference(
    "MAS",
    "an old head, not used any more, moves while weight decay is on, relative (%)",
    f"{MAS_DEFECTS}::test_old_heads_are_moved_by_weight_decay",
)
@both_mas
def weight_decay_moves_old_heads(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """A penalty in the loss gives every weight a gradient, if only of 0.

    So the optimizer decays weights that no data of the new task hold in place.
    """
    stream = split_digits(5, seed).train_stream

    model = MultiHead(training, seed)
    after = Watch("after_training_exp", lambda strategy: weights(model)[head(0)])
    learn(model, training, stream[:2], plugin_type(1e-3), after, weight_decay=0.01)
    return 100 * relative(after.seen[1], after.seen[0])


def _quadratic(importance: Any, after: dict[str, Tensor], before: dict[str, Tensor]) -> float:
    """ΣΩΔθ²."""
    ω = omega(importance)
    return sum(float((ω[n] * (after[n] - before[n]) ** 2).sum()) for n in ω)


def _first_penalty(
    plugin: Any, training: DigitsTraining, seed: int, wrap: Callable[[nn.Module], Any]
) -> tuple[float, float]:
    """What is added to the loss in the second experience's first step, with all weights displaced.

    And Eq. 3's value for it, with λ = 1.
    """
    first, second = permuted_digits(2, seed).train_stream
    model = single_head(training, seed)
    made = learn(model, training, [first], plugin)
    anchor = weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    equation = _quadratic(plugin.importance, weights(model), anchor) / 2
    made.model = wrap(model)
    task = Watch("after_forward", lambda s: float(s.criterion().detach()))
    # Ours comes in before_update.
    whole = Watch("after_update", lambda s: float(s.loss.detach()))
    made.plugins += [task, whole]
    x, y = (part[: training.batch_size] for part in tensors(second))
    made.train(in_order(x, y))
    return whole.seen[0] - task.seen[0], equation
