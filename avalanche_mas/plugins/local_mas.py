"""l-MAS as an Avalanche plugin (Aljundi et al., ECCV 2018), local and Hebbian: Eq. 5-7."""

from __future__ import annotations

from typing import Any

from torch import nn

from avalanche_mas.importance import Importance, estimate_local_importance
from avalanche_mas.importance.batches import Forward
from avalanche_mas.importance.engines.inference_pass import RunningLocal
from avalanche_mas.importance.watch import Mean, call_again
from avalanche_mas.plugins.base.measured import MeasuredPlugin


class LocalMASPlugin(MeasuredPlugin):
    """l-MAS: importance of each layer by itself, from forward passes only.

    For a ReLU layer Ω_ij is the mean of y_j y_i, Hebb's rule (Eq. 7); the factor 2 of the
    derivative ∂‖F_l‖²/∂θ_l is dropped as there, so the same λ protects half as strongly as with the
    derivative itself. Parameters outside linear, convolutional, normalisation and embedding layers
    are not protected, and a warning names them.

    Parameters are those of :class:`MeasuredPlugin`.
    """

    def measure(
        self, model: nn.Module, data: Any, forward: Forward | None, batch_size: int
    ) -> Importance:
        """Ω of ``data`` by Eq. 7."""
        return estimate_local_importance(
            model, data, forward=forward, batch_size=batch_size, progress=self.verbose
        )

    def _running(self, model: nn.Module) -> Mean:
        return RunningLocal(model, call_again)
