"""The slow, obviously right ways to Ω (Eq. 2), and the quick wrong one that others use.

Each adds to ``total`` what :mod:`.objectives` sums over the samples of a batch. The mean over all
samples is taken once at the end, so neither batch size nor order can matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from avalanche_mas.importance.batches import (
    batch_size_of,
    entries_of,
    is_per_sample,
    leaves_of,
    map_leaves,
    take,
)
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.objectives import Objective, add_samples
from avalanche_mas.importance.parameters import wide

CHUNK_BYTES = 1 << 28
"""Per-sample gradients that :func:`vmap` may hold at a time."""


def loop(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    total: Mapping[str, Tensor],
    objective: Objective,
) -> set[str]:
    """One sample at a time through plain autograd: the reference for all other engines.

    :param network: F.
    :param parameters: canonical name → parameter to measure.
    :param batch: B samples.
    :param total: where Σ_k of this batch is added, in place.
    :param objective: what is measured.
    :return: the parameters that a sample uses.
    """
    used = set()
    for name, importance in one_by_one(network, parameters, batch, objective):
        total[name].add_(importance)
        used.add(name)
    return used


def one_by_one(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    objective: Objective,
    entries: Callable[[Tensor], Tensor] = lambda gradient: gradient,
) -> Iterator[tuple[str, Tensor]]:
    """For each sample and each parameter that it uses, what :func:`loop` adds up.

    One at a time: with the gradients of one sample, no more than one copy of the parameters.

    :param entries: those of a gradient that are asked for. All others take memory that is written
        and read for nothing: on AlexNet it made a comparison twice as slow.
    """
    size = batch_size_of(batch)
    tensors = list(parameters.values())
    for k in range(size):
        with PlainBatchNorm():
            outputs = network(take(batch, slice(k, k + 1), size))
        sample: list[Tensor | None] = [None] * len(tensors)
        for ends, starts in objective.starts(outputs):
            for i, gradient in enumerate(_gradients(ends, starts, tensors)):
                if gradient is not None:
                    magnitude, before = objective.magnitude(wide(entries(gradient))), sample[i]
                    sample[i] = magnitude if before is None else before + magnitude
        for i, name in enumerate(parameters):
            importance, sample[i] = sample[i], None
            if importance is not None:
                yield name, importance if objective.root is None else objective.root(importance)


def batch(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    total: Mapping[str, Tensor],
    objective: Objective,
) -> None:
    """|Σ_k g_k|, the absolute value of a whole batch's gradient: **not** Eq. 2.

    This is what other libraries compute. Gradients of different samples cancel before the
    absolute value is taken, so the result depends on the batch size and on the order of the
    samples, is too small by a factor that differs between parameters, and a λ tuned with it does
    not carry over to another batch size. It is here for comparisons only.
    """
    for ends, starts in objective.starts(network(batch)):
        gradients = _gradients(ends, starts, list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                total[name].add_(objective.magnitude(gradient))


def vmap(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    total: Mapping[str, Tensor],
    objective: Objective,
) -> None:
    """All samples of a chunk at once through :func:`torch.func.vmap`.

    Memory for B × parameters numbers, bounded by chunks of :data:`CHUNK_BYTES`. Arguments as for
    :func:`loop`. What vmap cannot transform (data-dependent control flow, cuDNN and oneDNN
    recurrent layers) raises vmap's own RuntimeError.

    :raises RuntimeError: also for a model that computes with what it has kept of a pass before.
    """
    size = batch_size_of(batch)
    if network.keeps_graphs(take(batch, slice(0, 1), size)):
        raise RuntimeError(
            "the model computes with a tensor that it derived from parameters in an earlier pass, "
            "which vmap cannot replace: use engine='auto' or 'loop'"
        )
    if any(entries_of(leaf) == size and not isinstance(leaf, Tensor) for leaf in leaves_of(batch)):
        raise RuntimeError("vmap cannot give each sample its own entry of what is no tensor")
    samples = [leaf for leaf in leaves_of(batch) if is_per_sample(leaf, size)]
    measured = {name: p.detach() for name, p in parameters.items()}

    def outputs_of(theta: dict[str, Tensor], *sample: Tensor) -> list[Tensor]:
        own = iter(sample)
        one = map_leaves(
            lambda leaf: next(own).unsqueeze(0) if is_per_sample(leaf, size) else leaf, batch
        )
        with PlainBatchNorm():
            return network.with_parameters(twin, theta, one)

    def of_sample(theta: dict[str, Tensor], *sample: Tensor) -> dict[str, Tensor]:
        outputs, pullback, *_ = torch.func.vjp(lambda t: outputs_of(t, *sample), theta)
        sums: dict[str, Tensor] = {}
        for start in objective.starts(outputs):  # vmap within vmap is wrong for PReLU (torch 2.14)
            (gradients,) = pullback(_at_all(outputs, *start))
            for name, gradient in gradients.items():
                sums[name] = sums.get(name, 0) + objective.magnitude(wide(gradient))
        return sums if objective.root is None else {n: objective.root(s) for n, s in sums.items()}

    per_sample = torch.func.vmap(of_sample, in_dims=(None,) + (0,) * len(samples))
    chunk = max(1, CHUNK_BYTES // sum(p.numel() * p.element_size() for p in measured.values()))
    for start in range(0, size, chunk):
        twin = network.twin()
        importance = per_sample(measured, *(t[start : start + chunk] for t in samples))
        for name, values in importance.items():
            add_samples(total[name], values)


class Reference:
    """One of the above as an :class:`.base.Engine`.

    :param measure: :func:`loop`, :func:`vmap` or :func:`batch`.
    :param network: F.
    :param parameters: canonical name → parameter to measure.
    :param objective: what is measured.
    """

    fallbacks: Mapping[str, str] = {}

    def __init__(
        self,
        measure: Callable[..., object],
        network: Network,
        parameters: dict[str, Tensor],
        objective: Objective,
    ) -> None:
        self._measure = partial(measure, network, parameters, objective=objective)

    def __call__(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds Σ_k of ``batch`` to ``total``."""
        self._measure(batch=batch, total=total)


class VmapOrLoop:
    """:func:`vmap` until it refuses the network, :func:`loop` from then on.

    :param network: F.
    :param objective: what is measured.
    """

    def __init__(self, network: Network, objective: Objective) -> None:
        self.network, self.objective = network, objective
        self.vmap_works = True
        """Whether vmap has not refused yet."""

    def __call__(
        self, parameters: Mapping[str, Tensor], batch: Any, total: Mapping[str, Tensor]
    ) -> None:
        """Adds Σ_k of ``batch`` to ``total``, for the given parameters."""
        if self.vmap_works:
            added = {name: torch.zeros_like(total[name]) for name in parameters}
            try:
                vmap(self.network, parameters, batch, added, self.objective)
            except (RuntimeError, ValueError, NotImplementedError):
                self.vmap_works = False  # and what it already added is dropped
            else:
                for name, importance in added.items():
                    total[name].add_(importance)
                return
        loop(self.network, parameters, batch, total, self.objective)


class PlainBatchNorm(TorchFunctionMode):
    """While active, BatchNorm with running statistics is computed as γ (x − μ)/σ + β.

    torch's own gradient of it is wrong for one sample, on a CPU, where δ lies in memory with the
    channels last (torch 2.14): the reference must not err where torch errs.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or running_mean is None or running_var is None:
        return functional.batch_norm(
            input, running_mean, running_var, weight, bias, training, momentum, eps
        )
    shape = (-1,) + (1,) * (input.dim() - 2)
    scale = (wide(running_var) + eps).rsqrt()  # torch rounds once, at the end
    output = (wide(input) - wide(running_mean).view(shape)) * scale.view(shape)
    if weight is not None:
        output = output * wide(weight).view(shape)
    if bias is not None:
        output = output + wide(bias).view(shape)
    return output.to(input.dtype)


def _at_all(outputs: list[Tensor], ends: list[Tensor], starts: list[Tensor]) -> list[Tensor]:
    """The gradient at every output, zero where a pass does not begin."""
    given = {id(end): start for end, start in zip(ends, starts, strict=True)}
    return [given[id(out)] if id(out) in given else torch.zeros_like(out) for out in outputs]


def _gradients(
    ends: list[Tensor], starts: list[Tensor], parameters: list[Tensor]
) -> list[Tensor | None]:
    used = [(end, start) for end, start in zip(ends, starts, strict=True) if end.requires_grad]
    if not used:
        return [None] * len(parameters)
    ends, starts = map(list, zip(*used, strict=True))
    gradients = torch.autograd.grad(ends, parameters, starts, allow_unused=True, retain_graph=True)
    return [g.to_dense() if g is not None and g.is_sparse else g for g in gradients]
