"""Ω as a running mean over samples that come piece by piece."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_mas.importance.batches import Forward, batch_size_of, to_device
from avalanche_mas.importance.engines.base import PlannedEngine, zeros
from avalanche_mas.importance.engines.finite import NotFiniteError
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.parameters import unwrap
from avalanche_mas.importance.shadow import untouched
from avalanche_mas.importance.standard_error import StandardError

Engine = Callable[[Any, dict[str, Tensor]], None]
"""Adds the sum over the samples of a batch to a total: parameter name → tensor."""


class Running:
    """The mean importance of batches that are added one after the other, as of all at once.

    :param model: it is not changed, and must stay as it is.
    :param make_engine: network, parameters → engine.
    :param forward: how a batch goes through the model.
    :raises ValueError: if the model has no trainable parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        make_engine: Callable[[Network, dict[str, Tensor]], Engine],
        forward: Forward,
    ) -> None:
        self.model = unwrap(model)
        self.samples = 0
        """How many have been measured."""
        network = Network(self.model, forward)
        self.parameters = network.trainable()
        self.device = next(iter(self.parameters.values())).device
        self.engine = make_engine(network, self.parameters)
        with torch.inference_mode(False):
            self.total = zeros(self.parameters)
            """Σ_k |g_k| so far."""
            self.error = StandardError(self.total)

    def add(self, batch: Any) -> None:
        """Runs the model on a batch, and adds its samples; it leaves no trace."""
        with warnings.catch_warnings(), untouched(self.model):
            warnings.filterwarnings("ignore", message="There is a performance drop")  # of vmap
            batch = to_device(batch, self.device)
            self.engine(batch, self.total)
            self.samples += batch_size_of(batch)
            self.error.note(batch_size_of(batch))

    def settle(self) -> None:
        """Brings the total up to date where an engine lets sums wait."""

    @property
    def importance(self) -> Importance:
        """Ω of all samples so far, as a copy.

        :raises ValueError: if there are none, or if it is not finite.
        """
        with torch.inference_mode(False), torch.no_grad():
            self.settle()
            if not self.samples:
                raise ValueError("no samples have been measured, so there is no mean to take")
            for name, total in self.total.items():
                if not bool(total.isfinite().all()):
                    raise NotFiniteError(
                        f"the importance of {name!r} is not finite: an input, the model's output "
                        "or its gradient held NaN or infinity, or their square overflowed"
                    )
            return Importance(
                {name: total / self.samples for name, total in self.total.items()},
                self.samples,
                errors=self.error.of_layers(),
                fallbacks=self.engine.unruled if isinstance(self.engine, PlannedEngine) else {},
            )
