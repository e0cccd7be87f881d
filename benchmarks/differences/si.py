"""What Avalanche's SynapticIntelligencePlugin does otherwise than Zenke et al., ICML 2017."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import SynapticIntelligencePlugin

from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.plugins import SIPlugin

from ..digits.cell import DigitsTraining
from .parts import learn, single_head, weights
from .row import difference, for_both


@difference(
    "SI",
    "largest difference of a weight after two tasks, on a CPU, between λ = 1e-2 and λ = 1e8",
    "plugins/test_si.py::test_avalanches_si_is_the_same_for_every_strength_on_a_cpu",
)
@for_both(SynapticIntelligencePlugin, SIPlugin)
def strength_has_no_effect(plugin_type: Any, training: DigitsTraining, seed: int) -> float:
    """What it keeps as the old weights is a view of those in training, so nothing ever differs.

    On a CPU it is finetuning.
    """
    stream = permuted_digits(2, seed).train_stream
    runs = []
    for strength in (1e-2, 1e8):
        model = single_head(training, seed)
        learn(model, training, stream, plugin_type(strength))
        runs.append(weights(model))
    return max(float((runs[0][name] - runs[1][name]).abs().max()) for name in runs[0])
