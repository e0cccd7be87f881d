"""l-MAS from a forward pass that the model makes for its user.

The activations of that pass are all that l-MAS needs (Eq. 7). Those of a part of the samples are
copied as they appear, and multiplied afterwards. The pass itself stays as it is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_mas.importance.batches import Forward, shapes_of, take, to_device
from avalanche_mas.importance.engines.base import CHECKED_SAMPLES
from avalanche_mas.importance.engines.finite import NotFiniteError
from avalanche_mas.importance.engines.instrument import Pass, PlanMismatch
from avalanche_mas.importance.engines.local import Hebbian, Local
from avalanche_mas.importance.engines.objectives import OBJECTIVES
from avalanche_mas.importance.engines.plan import Plan
from avalanche_mas.importance.engines.tracking import Operation
from avalanche_mas.importance.estimate import RunningMean, measuring
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.interrupts import DeferredInterrupts
from avalanche_mas.importance.rules.matmul import MAX_WAITING_SAMPLES
from avalanche_mas.importance.rules.per_sample import PerSample

WAITING_SAMPLES = MAX_WAITING_SAMPLES
"""Products of so many samples are added at once: the large Ω of a linear layer is then written to
less often than the layer is used."""

_FAST = nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer
"""Modules that compute in another way, with other round-off, when they are looked at."""


class Live(Hebbian):
    """Measures a forward pass of the user's; nothing is added until it has gone as planned."""

    live = True

    def __init__(self, given: Pass) -> None:
        super().__init__(given)
        self._complete: list[tuple[str, Tensor, PerSample]] = []

    def handle(self, operation: Operation) -> Any:
        """Never ends the pass, whatever the model does."""
        if not self.mismatched:
            with suppress(PlanMismatch):
                return super().handle(operation)
        return operation.run()

    def pass_by(self, operation: Operation) -> Any:
        return operation.run() if self.mismatched else super().pass_by(operation)

    def add_complete(self, name: str, part: Tensor, gradients: PerSample) -> None:
        self._complete.append((name, part, gradients))

    def finish(self) -> None:
        """Adds everything; to be called after :meth:`check_complete`.

        :raises NotFiniteError: if a number is not finite; nothing is added then.
        """
        super().finish()
        for name, _, gradients in self._complete:
            if not all(t.isfinite().all() for t in vars(gradients).values() if _has_numbers(t)):
                raise NotFiniteError(f"the importance of {name!r} is not finite.")
        for name, part, gradients in self._complete:
            super().add_complete(name, part, gradients)

    def _emit_scaled(self, emit: Any, scale: Tensor, delta: Tensor, one_sign: bool) -> None:
        emit(delta * scale, one_sign)  # it waits, so it needs memory of its own


def _has_numbers(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


class LocalMean(RunningMean):
    """The running mean of l-MAS, of batches and of forward passes that the model makes anyway.

    :param model: it is not changed, and must stay as it is.
    :param forward: how a batch goes through the model.
    """

    engine: Local

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__(model, Local, forward)
        self._plans: dict[Hashable, Plan | None] = {}
        self._waiting = 0

    def add_whole(self, batch: Any) -> None:
        """Runs the model on a batch, and adds its samples; it leaves no trace."""
        self.flush()
        self.engine.forget()  # between two calls its user may change what the model does
        super().add_whole(batch)

    def follow(self, batch: Any, size: int, rows: Tensor) -> Live | None:
        """A context for the forward pass of a batch; a batch of a new kind is first looked at.

        :param batch: what is about to go through the model.
        :param size: number of samples in it.
        :param rows: those of them to measure, as indices.
        :return: None if what the model does with such a batch cannot be foreseen.
        """
        kind = _kind(batch, size)
        if kind not in self._plans:
            self._plans[kind] = self._foresee(batch, size)
        plan, engine = self._plans[kind], self.engine
        if plan is None:
            return None
        norm, record, products = OBJECTIVES["norm"], engine.record, engine.products
        return Live(Pass(self.parameters, plan, norm, size, self.total, record, products, rows))

    def add_live(self, live: Live, batch: Any) -> bool:
        """Adds what was measured in a forward pass.

        :param live: the context in which it was made.
        :param batch: what went through the model.
        :return: False, with nothing added, if it has not gone as foreseen.
        :raises NotFiniteError: as :meth:`Live.finish`.
        """
        assert live.rows is not None
        with torch.inference_mode(False), torch.no_grad():
            try:
                live.check_complete()
            except PlanMismatch:
                self._plans[_kind(batch, live.size)] = None
                return False
            live.finish()
            self.samples += len(live.rows)
            self._waiting += len(live.rows)
            if self._waiting >= WAITING_SAMPLES:
                self.flush()
        return True

    def flush(self) -> None:
        """Adds the products that wait."""
        self.engine.products.flush()
        if self._waiting:
            self.samples -= self._waiting  # which counts them again
            waiting, self._waiting = self._waiting, 0
            self.note(waiting)

    @property
    def importance(self) -> Importance:
        """As :attr:`.RunningMean.importance`."""
        with DeferredInterrupts(), torch.inference_mode(False), torch.no_grad():
            self.flush()
        return super().importance

    def _foresee(self, batch: Any, size: int) -> Plan | None:
        if any(isinstance(module, _FAST) for module in self.model.modules()):
            return None
        self.flush()  # checking a plan drops what waits
        with measuring(self.model):
            few = take(batch, torch.arange(min(size, CHECKED_SAMPLES)), size)  # copies
            few = to_device(few, self.device)
            self.network.look_out(few)
            plan = self.engine.foresee(few)
        self.engine.warn()
        if plan is None or self.engine.one_by_one:
            return None
        # what was computed from parameters alone has no graph here to be pulled back through
        return None if any(use.derives for use in plan.uses) else plan


def _kind(batch: Any, size: int) -> Hashable:
    return size > 1, shapes_of(batch)
