"""What Avalanche's multi-head networks do where heads are of unequal size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.models import MultiHead as OurMultiHead

from ..digits.cell import DigitsTraining
from ..training.samples import tensors
from .parts import MultiHead, Watch, as_tasks, features, learn
from .row import Pair, difference

_CLASSES = (8, 2)  # of the tasks


@difference(
    "heads",
    "first loss of a task of 2 classes that follows one of 8, over that of its head alone",
    "models/test_multi_head.py::test_avalanches_padding_enters_the_loss",
)
def padding_enters_the_loss(training: DigitsTraining, seed: int) -> Pair:
    """A small head's output is filled up with zeros, which cross-entropy takes for scores."""
    (experience,) = permuted_digits(1, seed).train_stream
    x, y = tensors(experience)
    many = y < _CLASSES[0]
    stream = as_tasks([(x[many], y[many]), (x[~many], y[~many] - _CLASSES[0])])

    def ratio(model: nn.Module) -> float:
        loss = Watch("before_backward", lambda s: _over_own(s) if s.clock.train_exp_counter else 0)
        learn(model, training, stream, loss)
        return float(next(value for value in loss.seen if value))

    trunk = features(training)
    return Pair(ratio(MultiHead(training, seed)), ratio(OurMultiHead(trunk, training.hidden_units)))


def _over_own(strategy: Any) -> float:
    """The loss over the mini-batch's cross-entropy by the second task's head."""
    x: Tensor = strategy.mb_x
    with torch.no_grad():
        own = nn.functional.cross_entropy(strategy.model(x, 1)[:, : _CLASSES[1]], strategy.mb_y)
    return float(strategy.loss.detach() / own)
