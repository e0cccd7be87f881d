"""Global MAS, Eq. 2: Ω = (1/N) Σ_k |∂‖F(x_k; θ)‖²/∂θ|, exact and for a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from avalanche_mas.importance.batches import batch_size_of
from avalanche_mas.importance.engines import reference
from avalanche_mas.importance.engines.backward import Backward
from avalanche_mas.importance.engines.base import PlannedEngine, compared, disagreeing
from avalanche_mas.importance.engines.instrument import Diverged
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.objectives import Norms, Squares
from avalanche_mas.importance.engines.plan import Plan
from avalanche_mas.importance.rules.per_sample import wide

Output = Literal["norm", "vector", "squares"]
_MEASUREMENTS: dict[str, type[Backward]] = {"norm": Backward, "vector": Norms, "squares": Squares}


class Exact(PlannedEngine):
    """The engine ``exact``: adds Σ_k |g_k| of each batch it is called with, or another output.

    Plans are checked against :func:`reference.loop`. Parameters that an operation without rule
    uses, or for which the two disagree, are measured by vmap, or by the loop where vmap refuses;
    none is skipped.

    :param network: F.
    :param parameters: canonical name → parameter to measure.
    :param output: see :func:`~avalanche_mas.estimate_importance`.
    """

    def __init__(
        self, network: Network, parameters: dict[str, Tensor], output: Output = "norm"
    ) -> None:
        super().__init__(network, parameters)
        self.output = output
        self._slow = reference.VmapOrLoop(network, parameters, output)

    @property
    def fallback(self) -> Literal["vmap", "loop"]:
        """How parameters are measured that no rule measures, as far as has been seen."""
        return "vmap" if self._slow.vmap_works else "loop"

    def __call__(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds Σ_k of ``batch`` to ``total``, in pieces that bound the memory."""
        if self._plan is None and batch_size_of(batch) == 1:
            self.measure_unplanned(batch, total)  # to plan and check would cost more
        else:
            super().__call__(batch, total)

    def measure(self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor]) -> bool:
        """One forward pass, backward passes through activations, and the slow engines' rest."""
        if len(self.unruled) < len(self.parameters):
            kind = _MEASUREMENTS[self.output]
            measurement = kind(self.parameters, plan, size, total, self.record, self.products)
            try:
                with measurement:
                    outputs = self.network(batch)
                measurement.check_complete()
            except Diverged:
                return False
            if outputs := [output for output in outputs if output.requires_grad]:
                measurement.differentiate(outputs)
        self._measure_slowly(self.unruled, batch, total)
        return True

    def check(self, plan: Plan, few: Any, spare: dict[str, Tensor]) -> bool:
        """Compares with the loop."""
        values = compared({name: p.detach() for name, p in self.parameters.items()})
        loops = {name: torch.zeros_like(wide(entries)) for name, entries in values.items()}
        for name, importance in reference.one_by_one(
            self.network, self.parameters, few, self.output
        ):
            loops[name] += compared({name: importance})[name].abs()
        reason = "the network looks at values, so that samples may not go the same way"
        if not plan.looks_at_values:
            try:
                if not self.measure(plan, few, batch_size_of(few), spare):
                    return False
                self.products.flush()
                differ = set(disagreeing(compared(spare), loops, self.parameters))
                # what the same operation uses may agree by chance, where all signs are equal
                together = [set(use.names) for use in plan.uses if differ & set(use.names)]
                for name in differ.union(*together) & set(self.parameters):
                    self.unruled.setdefault(name, "disagrees with the batch-size-1 loop")
                return True
            except (
                RuntimeError
            ) as error:  # such as activation checkpointing, which runs layers again
                reason = str(error).partition("\n")[0]
        for name in self.parameters:
            self.unruled.setdefault(name, reason)
        return True

    def measure_unplanned(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Everything by the slow engines."""
        self._measure_slowly(self.parameters, batch, total)

    def _measure_slowly(self, names: Iterable[str], batch: Any, total: dict[str, Tensor]) -> None:
        self._slow.parameters = {name: self.parameters[name] for name in names}
        if self._slow.parameters:
            self._slow(batch, total)
