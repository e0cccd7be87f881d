"""l-MAS from a forward pass that the model makes for its user.

The activations of that pass are all that l-MAS needs (Eq. 7). Those of a part of the samples are
copied as they appear, and multiplied afterwards. The pass itself stays as it is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_mas.importance.batches import Forward, take, to_device
from avalanche_mas.importance.engines.base import CHECKED_SAMPLES
from avalanche_mas.importance.engines.instrument import Diverged
from avalanche_mas.importance.engines.local import Hebbian, Local, shapes_of
from avalanche_mas.importance.engines.plan import Plan
from avalanche_mas.importance.engines.tracking import Operation
from avalanche_mas.importance.rules.matmul import ENOUGH
from avalanche_mas.importance.rules.per_sample import PerSample
from avalanche_mas.importance.running import Running
from avalanche_mas.importance.shadow import untouched

WAITING_SAMPLES = ENOUGH
"""Products of so many samples are added at once: the large Ω of a linear layer is then written to
less often than the layer is used."""

_FAST = nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer
"""Modules that compute in another way, with other round-off, when somebody looks on."""


class Live(Hebbian):
    """Measures a forward pass of the user's; nothing is added until it has gone as planned."""

    live = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._diverged = False
        self._complete: list[tuple[str, Tensor, PerSample]] = []

    def handle(self, operation: Operation) -> Any:
        """Never ends the pass, whatever the model does."""
        if not self._diverged:
            try:
                return super().handle(operation)
            except Diverged:
                self._diverged = True
        return operation.run()

    def pass_by(self, operation: Operation) -> Any:
        return operation.run() if self._diverged else super().pass_by(operation)

    def add_complete(self, name: str, part: Tensor, gradients: PerSample) -> None:
        self._complete.append((name, part, gradients))

    def finish(self) -> None:
        """Adds everything; to be called after :meth:`check_complete`."""
        super().finish()
        for name, part, gradients in self._complete:
            super().add_complete(name, part, gradients)

    def check_complete(self) -> None:
        if self._diverged:
            raise Diverged
        super().check_complete()

    def _emit_scaled(self, emit: Any, scale: Tensor, delta: Tensor, one_sign: bool) -> None:
        emit(delta * scale, one_sign)  # it waits, so it needs memory of its own


class RunningLocal(Running):
    """The running mean of l-MAS, of batches and of forward passes that the model makes anyway.

    :param model: it is not changed, and must stay as it is.
    :param forward: how a batch goes through the model.
    """

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__(model, Local, forward)
        self._plans: dict[Hashable, Plan | None] = {}
        self._waiting = 0

    def add(self, batch: Any) -> None:
        """Runs the model on a batch, and adds its samples; it leaves no trace."""
        assert isinstance(self.engine, Local)
        self.settle()
        self.engine.forget()  # between two calls its user may change what the model does
        super().add(batch)

    def follow(self, batch: Any, size: int, rows: Tensor) -> Live | None:
        """A context for the forward pass of a batch; a batch of a new kind is first looked at.

        :param batch: what is about to go through the model.
        :param size: number of samples in it.
        :param rows: those of them to measure, as indices.
        :return: None if what the model does with such a batch cannot be foreseen.
        """
        assert isinstance(self.engine, Local)
        kind = _kind(batch, size)
        if kind not in self._plans:
            self._plans[kind] = self._foresee(batch, size)
        plan, engine = self._plans[kind], self.engine
        if plan is None:
            return None
        return Live(self.parameters, plan, size, self.total, engine.record, engine.products, rows)

    def add_live(self, live: Live, batch: Any) -> bool:
        """Adds what was measured in a forward pass.

        :param live: the context in which it was made.
        :param batch: what went through the model.
        :return: False, with nothing added, if it has not gone as foreseen.
        """
        assert live.rows is not None
        with torch.inference_mode(False), torch.no_grad():
            try:
                live.check_complete()
            except Diverged:
                self._plans[_kind(batch, live.size)] = None
                return False
            live.finish()
            self.samples += len(live.rows)
            self._waiting += len(live.rows)
            if self._waiting >= WAITING_SAMPLES:
                self.settle()
        return True

    def settle(self) -> None:
        """Adds the products that wait."""
        assert isinstance(self.engine, Local)
        self.engine.products.flush()
        if self._waiting:
            self.error.note(self._waiting)
            self._waiting = 0

    def _foresee(self, batch: Any, size: int) -> Plan | None:
        assert isinstance(self.engine, Local)
        if any(isinstance(module, _FAST) for module in self.model.modules()):
            return None
        self.settle()  # checking a plan drops what waits
        with untouched(self.model):
            few = take(batch, torch.arange(min(size, CHECKED_SAMPLES)), size)  # copies
            few = to_device(few, self.device)
            plan = self.engine.foresee(few)
        self.engine.warn()
        if plan is None or plan.looks_at_values or self.engine.one_by_one:
            return None
        # what was computed from parameters alone has no graph here to be pulled back through
        return None if any(use.derives for use in plan.uses) else plan


def _kind(batch: Any, size: int) -> Hashable:
    return size > 1, shapes_of(batch)
