"""Local MAS, Eq. 4-7: each layer alone is asked how sensitive its own output is. Forward only.

A layer l with its activation is F_l; its input is taken as given. Per sample

    ½ ∂‖F_l(y)‖²/∂θ_l = Σ δ ∂z/∂θ_l,   δ = f(z) f′(z),   z = W y + b,

and Ω is the mean of the absolute value. For ReLU, f(z) f′(z) = f(z), so that Ω_ij is the mean of
y_j y_i, Hebb's rule (Eq. 7). The factor 2 of the derivative is dropped everywhere, as Eq. 7 does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from avalanche_mas.importance.batches import batch_size_of, shapes_of, take
from avalanche_mas.importance.engines.activations import (
    ELEMENTWISE,
    KEEPS_SIGN,
    RELU,
    batch_norm_scale,
    half_gradient,
)
from avalanche_mas.importance.engines.base import (
    Apart,
    PlannedEngine,
    Verify,
    compared,
    disagreeing,
)
from avalanche_mas.importance.engines.instrument import Instrument, Pass, PlanMismatch
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.objectives import OBJECTIVES
from avalanche_mas.importance.engines.plan import Plan, make_plan
from avalanche_mas.importance.engines.tracking import Operation
from avalanche_mas.importance.engines.ways import Group
from avalanche_mas.importance.parameters import zeros
from avalanche_mas.importance.rules.matmul import Products
from avalanche_mas.importance.rules.registry import (
    Call,
    Gradients,
    name_of,
    samples_first,
)


class Local(PlannedEngine):
    """The l-MAS engine: adds Σ_k |½ ∂‖F_l(x_k)‖²/∂θ_l| of each batch it is called with.

    A layer is an operation that has a rule (:mod:`.rules`): linear, convolution, normalisation,
    embedding. An elementwise activation that directly follows belongs to it, and so does a
    BatchNorm between the two; a layer without activation is linear, f(z) = z. Parameters used by
    other operations have no layer of their own: their Ω stays zero, and a warning names them.

    :param network: F.
    :param parameters: canonical name → parameter to measure.
    :param verify: see :class:`.PlannedEngine`.
    :param one_by_one: measure each sample alone from the start.
    """

    has_backward = False

    def __init__(
        self,
        network: Network,
        parameters: dict[str, Tensor],
        verify: Verify = "growing",
        *,
        one_by_one: bool = False,
    ) -> None:
        super().__init__(network, parameters, verify)
        self.one_by_one = one_by_one
        """Whether samples have to be measured alone."""
        self._seen: set[tuple[object, ...]] = set()
        self._others: list[Plan] = []  # for samples that go another way than most
        self._warned: set[str] = set()

    def __call__(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds the sum over the samples of ``batch`` to ``total``."""
        super().__call__(batch, total)
        self.warn()

    def warn(self) -> None:
        """Names the parameters without a layer, once."""
        new = sorted(set(self.unruled) - self._warned)
        if named := ", ".join(f"{name} ({self.unruled[name]})" for name in new):
            message = "l-MAS has no layer for these parameters, their importance is zero: "
            warnings.warn(message + named, stacklevel=3)
        self._warned.update(new)

    def forget(self) -> None:
        """From now on, what went as planned before may go otherwise."""
        self._seen.clear()

    def measure(self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor]) -> bool:
        """One forward pass; as many as there are samples where they have to be measured alone."""
        self.one_by_one |= plan.mixes_samples
        if self.one_by_one:
            fitting = None if plan.looks_at_values else plan
            for k in range(size):
                self._measure_alone(fitting, take(batch, slice(k, k + 1), size), total)
            return True
        # What went as planned once will do so again; until then, an incomplete sum must not count.
        kind = plan.signature, size, shapes_of(batch)
        if kind not in self._seen:
            apart = self.outputs_apart(batch, size, is_new=True)
            if self._try(plan, batch, size, total, apart):
                self._seen.add(kind)
                return True
            return False
        if self._run(plan, batch, size, total, self.products) is None:
            raise ValueError(
                "the model ran other operations than before for a batch of the same shapes, so "
                "its layers cannot be told apart; use global MAS for it"
            )
        return True

    def _measure_alone(self, plan: Plan | None, sample: Any, total: dict[str, Tensor]) -> None:
        """With the plan of whichever samples it goes like; else with one of its own."""
        plans = [p for p in (plan, *self._others) if p is not None]
        clear = [p for p in plans if not any(use.unclear for use in p.uses)]
        if any(self._try(other, sample, 1, total) for other in clear):
            return
        own = make_plan(self.network, self.parameters, sample, 1, by_gradient=False)
        if own is None or not self._try(own, sample, 1, total):
            raise ValueError(
                "the model runs other operations for one sample than for two or three like it, or "
                "others whenever it is asked, so its layers cannot be told apart; use global MAS "
                "for it"
            )
        self._others.append(own)

    def _try(
        self,
        plan: Plan,
        batch: Any,
        size: int,
        total: dict[str, Tensor],
        apart: Iterable[Apart] = (),
    ) -> bool:
        added, products = zeros(self.parameters), Products()
        outputs = self._run(plan, batch, size, added, products)
        if outputs is None:
            return False
        if self.mix(apart, outputs, batch):
            self.one_by_one = True  # samples depend on each other, or on how many there are
            return self.measure(plan, batch, size, total)
        products.flush()
        for name, importance in added.items():
            total[name].add_(importance)
        return True

    def _run(
        self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor], products: Products
    ) -> list[Tensor] | None:
        """Adds what a forward pass shows.

        :return: its outputs; None, and the sum is incomplete, if it went otherwise than planned.
        """
        prepared = self.network.prepare(batch)
        hebbian = Hebbian(
            Pass(self.parameters, plan, OBJECTIVES["norm"], size, total, self.record, products)
        )
        try:
            with hebbian:
                outputs = prepared.run()
            hebbian.check_complete()
        except PlanMismatch:
            return None
        hebbian.finish()
        return outputs

    def guesses(self, plan: Plan) -> bool:
        """Where a sample has several entries, no gradient has been asked whose they are."""
        return plan.has_several_entries and not self.one_by_one

    def compare(self, plan: Plan, few: Any, spare: dict[str, Tensor]) -> set[str] | None:
        """Compares several samples at once with each of them alone."""
        size = batch_size_of(few)
        self.measure(plan, few, size, spare)
        self.products.flush()
        together = compared(spare)
        for importance in spare.values():
            importance.zero_()
        for k in range(size):
            self.measure(plan, take(few, slice(k, k + 1), size), 1, spare)
        self.products.flush()
        alone = compared(spare)
        self.exercised |= {name for name, entries in alone.items() if bool(entries.any())}
        if not self.one_by_one and (differ := disagreeing(together, alone, self.parameters)):
            self.one_by_one = True
            return set(differ)
        return set()

    def distrust(self, names: Iterable[str]) -> None:
        """Nothing more: samples are measured alone from now on."""

    def fall_back(self, names: set[str], batch: Any, total: dict[str, Tensor]) -> None:
        """Adds a batch again for some parameters, one sample at a time."""
        added = zeros(self.parameters)
        if self._plan is None or not self.measure(self._plan, batch, batch_size_of(batch), added):
            self.measure_unplanned(batch, total)
        self.products.flush()
        for name in names:
            total[name].add_(added[name])

    def separate(self) -> None:
        """One sample in a forward pass."""
        self.one_by_one = True

    def measure_unplanned(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Each sample alone, from now on."""
        self.one_by_one, size = True, batch_size_of(batch)
        for k in range(size):
            self._measure_alone(None, take(batch, slice(k, k + 1), size), total)

    def measure_single(self, batch: Any, total: dict[str, Tensor]) -> set[str]:
        """Plans as for several samples: only the plan tells layers apart."""
        self._add(Group(self._kind[0], batch, 1), total)
        self.products.flush()
        return set()


_Emit = Callable[[Tensor, bool], None]
"""Takes δ at a layer's output, and whether no entry of δ differs in sign between samples."""


@dataclass
class _Layer:
    """A layer whose activation, if it has one, has not been seen yet."""

    z: Tensor
    emit: _Emit


class Hebbian(Instrument):
    """Gets δ from the activation that directly follows a layer."""

    def __init__(self, given: Pass) -> None:
        super().__init__(given)
        self._simple = set(self.parameters) - self.plan.shared
        self._open: dict[int, _Layer] = {}
        self._through: _Emit | None = None
        self._scratch: Tensor | None = None
        self._nonnegative = WeakTensorKeyDictionary()

    def handle(self, operation: Operation) -> Any:
        self._through = self._close(operation)
        return super().handle(operation)

    def run(self, call: Call, gradients: Gradients) -> Any:
        through, axis = self._through, call.output_axes[0]
        positive = self._is_nonnegative(call.args[:1])

        def emit(delta: Tensor, one_sign: bool) -> None:
            call.check_kept()
            if axis is not None and axis.per_sample and delta.numel():
                for parameter, per_sample in gradients(samples_first(delta, axis, self.size)):
                    name = self.find(parameter)
                    if name is None:
                        continue
                    if name not in self._simple:
                        per_sample = per_sample.clone()  # it waits, and its memory may be reused
                    elif one_sign and positive:
                        per_sample = per_sample.summed()
                    self.add(parameter, per_sample)
            if through is not None:
                through(delta, one_sign)

        z: Tensor = self.plainly(call.function, call.args, call.kwargs)
        self._open[id(z)] = _Layer(z, emit)
        return z

    def pass_by(self, operation: Operation) -> Any:
        function, leaves = operation.function, operation.leaves
        if name_of(function) in _PASSIVE:
            return operation.run()
        if not any(id(leaf) in self._open for leaf in leaves):
            keeps_sign = name_of(function) in KEEPS_SIGN and self._is_nonnegative(leaves[:1])
            result = operation.run()
            return self._mark_nonnegative(result) if keeps_sign or function in RELU else result
        layer = self._open.get(id(leaves[0]))
        if layer is not None and function in RELU:
            del self._open[id(layer.z)]
            y: Tensor = operation.run()
            layer.emit(y.detach(), True)  # f f′ = f
            return self._mark_nonnegative(y)
        if layer is not None and function in ELEMENTWISE:
            del self._open[id(layer.z)]
            layer.emit(half_gradient(operation, layer.z.detach()), False)
            return operation.run()
        through = self._close(operation)
        result = operation.run()
        if layer is not None and through is not None:  # a BatchNorm without trainable parameters
            self._open[id(result)] = _Layer(result, through)
        return result

    def finish(self) -> None:
        for layer in self._open.values():
            layer.emit(layer.z.detach(), False)
        self._open.clear()
        super().finish()

    def _close(self, operation: Operation) -> _Emit | None:
        """Ends the layers that ``operation`` reads, with f(z) = z, except for a BatchNorm.

        :return: for a BatchNorm of an open layer, how δ at its output goes on to that layer.
        """
        function, args, kwargs, leaves, _ = operation
        if name_of(function) in _PASSIVE:
            return None
        through = None
        for layer in [self._open.pop(id(leaf)) for leaf in leaves if id(leaf) in self._open]:
            scale = batch_norm_scale(*args, **kwargs) if function is functional.batch_norm else None
            if scale is None:
                layer.emit(layer.z.detach(), False)
            else:
                through = partial(
                    self._emit_scaled, layer.emit, scale.view(-1, *(1,) * (layer.z.dim() - 2))
                )
        return through

    def _mark_nonnegative(self, tensor: Any) -> Any:
        """Notes that no entry is negative, for as long as the tensor is not written to."""
        if isinstance(tensor, Tensor):
            self._nonnegative[tensor] = None if tensor.is_inference() else tensor._version
        return tensor

    def _is_nonnegative(self, leaves: Sequence[Any]) -> bool:
        for tensor in leaves:
            if isinstance(tensor, Tensor) and tensor in self._nonnegative:
                if tensor.is_inference():  # Nothing counts how often it was written to, so one has
                    # to look. Where a sample has one position only, nothing would be gained.
                    return tensor.dim() > 2 and bool(tensor.min() >= 0)
                return bool(self._nonnegative[tensor] == tensor._version)
        return False

    def _emit_scaled(self, emit: _Emit, scale: Tensor, delta: Tensor, one_sign: bool) -> None:
        """δ before a BatchNorm, in memory that is used for one after the other."""
        if not delta.is_contiguous() or delta.dtype != scale.dtype:
            return emit(delta * scale, one_sign)
        held = self._scratch
        if held is None or held.dtype != delta.dtype or held.numel() < delta.numel():
            held = self._scratch = torch.empty_like(delta).flatten()
        emit(torch.mul(delta, scale, out=held[: delta.numel()].view(delta.shape)), one_sign)


_PASSIVE = {"__get__", "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point"}
_PASSIVE |= {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"}
"""Calls that look at a tensor without computing with it, and dropout, which in eval mode returns
the very tensor that it is given."""
