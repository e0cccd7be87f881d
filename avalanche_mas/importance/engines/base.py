"""What the engines that measure by rules share: plan, check, measure piece by piece, plan again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_mas.importance.batches import batch_size_of, take
from avalanche_mas.importance.engines.instrument import Record
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.plan import Plan, make_plan
from avalanche_mas.importance.rules.matmul import Products
from avalanche_mas.importance.rules.per_sample import wide_dtype
from avalanche_mas.importance.rules.registry import overlaps_itself

CHECKED_SAMPLES = 3
"""A new plan is checked on so many."""
_COMPARED_ENTRIES = 1 << 16


class PlannedEngine(ABC):
    """Adds the sum over the samples of each batch it is called with.

    A plan is made before the first batch, and again whenever a batch makes the network run other
    operations than planned. A plan that has not been seen before is checked on three samples.

    :param network: F.
    :param parameters: canonical name → parameter to measure.
    """

    def __init__(self, network: Network, parameters: dict[str, Tensor]) -> None:
        self.network, self.parameters = network, parameters
        self.record = Record()
        self.products = Products()
        self._plan: Plan | None = None
        self._checked: set[tuple[object, ...]] = set()
        for name, parameter in parameters.items():
            strides = torch.empty_like(parameter, device="meta").stride()
            if overlaps_itself(parameter) or strides != parameter.stride():
                self.unruled[name] = "its memory is not dense"

    @property
    def unruled(self) -> dict[str, str]:
        """Parameters that no rule measures: name → why."""
        return self.record.unruled

    def __call__(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds Σ_k of ``batch`` to ``total``, in pieces that bound the memory."""
        size = batch_size_of(batch)
        if self._plan is None or self._plan.signature not in self._checked:
            self._plan = self._planned(batch, size, total)
        kept = self.record.sample_bytes
        for piece in self._plan.pieces(batch, size, kept) if self._plan else [batch]:
            self._add(piece, total)
        self.products.flush()

    def foresee(self, few: Any) -> Plan | None:
        """A plan for what is to come, checked on a few samples like it; None if there is none."""
        plan = self._planned(few, batch_size_of(few), zeros(self.parameters))
        checked = plan is not None and (batch_size_of(few) == 1 or plan.signature in self._checked)
        return plan if checked else None

    @abstractmethod
    def measure(self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor]) -> bool:
        """Adds a batch; False, with ``total`` as it was, if it did not go as planned."""

    @abstractmethod
    def check(self, plan: Plan, few: Any, spare: dict[str, Tensor]) -> bool:
        """Tries a new plan on a few samples, and remembers what cannot be measured with it.

        :param spare: zeros that may be written to.
        :return: False if they did not go as planned, so that there was nothing to compare.
        """

    @abstractmethod
    def measure_unplanned(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds a batch whose operations cannot be foreseen."""

    def _add(self, piece: Any, total: dict[str, Tensor]) -> None:
        size = batch_size_of(piece)
        if self._plan is not None and self.measure(self._plan, piece, size, total):
            return
        self._plan = self._planned(piece, size, total)
        if self._plan is None or not self.measure(self._plan, piece, size, total):
            self.measure_unplanned(piece, total)

    def _planned(self, batch: Any, size: int, total: dict[str, Tensor]) -> Plan | None:
        plan = make_plan(self.network, self.parameters, batch, size)
        if plan is not None and plan.signature not in self._checked:
            self.products.flush()
            fresh = not any(bool(importance.any()) for importance in total.values())
            spare = total if fresh else zeros(self.parameters)
            if not self.check(plan, take(batch, slice(0, CHECKED_SAMPLES), size), spare):
                plan = None
            elif size > 1:  # one sample shows nothing of how samples lie beside each other
                self._checked.add(plan.signature)
            self.products.clear()  # it may have ended in an error
            for importance in total.values() if fresh else ():
                importance.zero_()
        return plan


def zeros(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """A zero tensor for each parameter, on its device and of its strides, at least float32."""
    return {
        name: torch.zeros_like(parameter.detach(), dtype=wide_dtype(parameter))
        for name, parameter in parameters.items()
    }


def compared(importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries on which two measurements are compared, as copies: all, or a random subset.

    A large parameter would need a second copy; a fault in where its samples lie shows everywhere.
    """
    chosen = {}
    for name, omega in importance.items():
        flat = omega.reshape(-1)
        if flat.numel() > _COMPARED_ENTRIES:
            generator = torch.Generator().manual_seed(0)
            index = torch.randint(flat.numel(), (_COMPARED_ENTRIES,), generator=generator)
            flat = flat[index.to(flat.device)]
        chosen[name] = flat.clone()
    return chosen


def disagreeing(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], parameters: dict[str, Tensor]
) -> list[str]:
    """Parameters whose two measurements differ by more than round-off explains.

    The difference is taken relative to the parameter's own importance, but not less than a
    millionth of the network's largest: where the true gradient is zero (a bias before
    InstanceNorm), both sides hold nothing but round-off.
    """
    largest = max(float(omega.max()) if omega.numel() else 0.0 for omega in theirs.values())
    names = []
    for name, omega in theirs.items():
        scale = max(float(omega.norm()), 1e-6 * largest * omega.numel() ** 0.5)
        tolerance = 10 * torch.finfo(parameters[name].dtype).eps ** 0.5
        if not float((ours[name] - omega).norm()) <= tolerance * scale:
            names.append(name)
    return names
