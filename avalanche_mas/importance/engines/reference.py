"""The slow, obviously right ways to Ω (Eq. 2), and the quick wrong one that others use.

Every engine adds Σ_k |g_k| of a batch, the sum over its samples, to ``total``; the mean over all
samples is taken once at the end, so neither batch size nor order can matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from avalanche_mas.importance.batches import batch_size_of, is_per_sample, take
from avalanche_mas.importance.engines.network import Network, squared_norm

CHUNK_BYTES = 1 << 28
"""Per-sample gradients that :func:`vmap` may hold at a time."""


def loop(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    total: dict[str, Tensor],
    output: str = "norm",
) -> None:
    """One sample at a time through plain autograd: the reference for all other engines.

    :param network: F.
    :param parameters: canonical name → parameter to measure.
    :param batch: B samples.
    :param total: where Σ_k of this batch is added, in place.
    :param output: ``"norm"``: g = ∂‖F(x_k)‖²/∂θ, in absolute value (Eq. 2);
        ``"vector"``: the Euclidean norm of ∂F_c(x_k)/∂θ over the outputs c; ``"squares"``: its
        square.
    """
    for name, importance in one_by_one(network, parameters, batch, output):
        total[name].add_(importance.abs())


def one_by_one(
    network: Network, parameters: Mapping[str, Tensor], batch: Any, output: str
) -> Iterator[tuple[str, Tensor]]:
    """For each sample and each parameter that it uses, what :func:`loop` adds up, up to its sign.

    One at a time: with the gradients of one sample, no more than one copy of the parameters.
    """
    size = batch_size_of(batch)
    tensors = list(parameters.values())
    for k in range(size):
        outputs = network(take(batch, slice(k, k + 1), size))
        if output == "norm":
            sample = _gradients(squared_norm(outputs), tensors)
        else:
            sample = [None] * len(tensors)
            for value in torch.cat([tensor.flatten() for tensor in outputs]):
                for i, g in enumerate(_gradients(value, tensors)):
                    if g is not None:
                        before = sample[i]
                        sample[i] = g.square() if before is None else before + g.square()
            if output == "vector":
                sample = [s if s is None else s.sqrt() for s in sample]
        for i, name in enumerate(parameters):
            gradient, sample[i] = sample[i], None
            if gradient is not None:
                yield name, gradient


def batch(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    total: dict[str, Tensor],
    output: str = "norm",
) -> None:
    """|Σ_k g_k|, the absolute value of a whole batch's gradient: **not** Eq. 2.

    This is what other libraries compute. Gradients of different samples cancel before the
    absolute value is taken, so the result depends on the batch size and on the order of the
    samples, is too small by a factor that differs between parameters, and a λ tuned with it does
    not carry over to another batch size. It is here for comparisons only.

    :raises ValueError: for ``output="vector"``, which nobody approximates this way.
    """
    if output != "norm":
        raise ValueError(f"engine='batch' knows output='norm' only, got {output!r}")
    gradients = _gradients(squared_norm(network(batch)), list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            total[name].add_(gradient.abs())


def vmap(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    total: dict[str, Tensor],
    output: str = "norm",
) -> None:
    """All samples of a chunk at once through :func:`torch.func.vmap`.

    Memory for B × parameters numbers, bounded by chunks of :data:`CHUNK_BYTES`. Arguments as for
    :func:`loop`. What vmap cannot transform (data-dependent control flow, cuDNN and oneDNN
    recurrent layers) raises vmap's own RuntimeError.
    """
    size = batch_size_of(batch)
    leaves, spec = tree_flatten(batch)
    sliced = [is_per_sample(leaf, size) for leaf in leaves]
    samples = [leaf for leaf, is_sliced in zip(leaves, sliced, strict=True) if is_sliced]
    raw = {id(p): name for name, p in network.named_parameters()}
    names = {raw[id(p)]: name for name, p in parameters.items()}
    measured = {name: p.detach() for name, p in network.named_parameters() if name in names}
    fixed = {name: p.detach() for name, p in network.named_parameters() if name not in names}
    fixed |= dict(network.named_buffers())

    def outputs_of(theta: dict[str, Tensor], *sample: Tensor) -> list[Tensor]:
        own = iter(sample)
        one = [
            next(own).unsqueeze(0) if is_sliced else leaf
            for leaf, is_sliced in zip(leaves, sliced, strict=True)
        ]
        result: list[Tensor] = torch.func.functional_call(
            network, {**fixed, **theta}, (tree_unflatten(one, spec),)
        )
        return result

    def norm(theta: dict[str, Tensor], *sample: Tensor) -> dict[str, Tensor]:
        gradient = torch.func.grad(lambda t: squared_norm(outputs_of(t, *sample)))(theta)
        return {name: g.abs() for name, g in gradient.items()}

    def squares(theta: dict[str, Tensor], *sample: Tensor) -> dict[str, Tensor]:
        jacobian = torch.func.jacrev(
            lambda t: torch.cat([tensor.flatten() for tensor in outputs_of(t, *sample)])
        )(theta)
        return {name: j.square().sum(0) for name, j in jacobian.items()}

    def vector(theta: dict[str, Tensor], *sample: Tensor) -> dict[str, Tensor]:
        return {name: s.sqrt() for name, s in squares(theta, *sample).items()}

    measured_by = {"norm": norm, "vector": vector, "squares": squares}[output]
    per_sample = torch.func.vmap(measured_by, in_dims=(None,) + (0,) * len(samples))
    chunk = max(1, CHUNK_BYTES // sum(p.numel() * p.element_size() for p in measured.values()))
    held = [(module, dict(module._parameters)) for module in network.modules()]
    try:
        for start in range(0, size, chunk):
            importance = per_sample(measured, *(t[start : start + chunk] for t in samples))
            for name, values in importance.items():
                total[names[name]].add_(values.sum(0, dtype=total[names[name]].dtype))
    finally:
        # functional_call leaves its own tensors in a module that the network holds under two names
        for module, own in held:
            module._parameters.update(own)
            if isinstance(module, nn.RNNBase):  # and in its own list of them
                for name, parameter in own.items():
                    setattr(module, name, parameter)


class VmapOrLoop:
    """:func:`vmap` until it refuses the network, :func:`loop` from then on.

    :param network: F.
    :param output: as for :func:`loop`.
    """

    def __init__(
        self, network: Network, parameters: Mapping[str, Tensor], output: str = "norm"
    ) -> None:
        self.network, self.parameters, self.output = network, parameters, output
        self.vmap_works = True
        """Whether vmap has not refused yet."""

    def __call__(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds Σ_k of ``batch`` to ``total``."""
        if self.vmap_works:
            added = {name: torch.zeros_like(total[name]) for name in self.parameters}
            try:
                vmap(self.network, self.parameters, batch, added, self.output)
            except (RuntimeError, ValueError, NotImplementedError):
                self.vmap_works = False  # and what it already added is dropped
            else:
                for name, importance in added.items():
                    total[name].add_(importance)
                return
        loop(self.network, self.parameters, batch, total, self.output)


def _gradients(value: Tensor, parameters: list[Tensor]) -> list[Tensor | None]:
    if not value.requires_grad:
        return [None] * len(parameters)
    return list(torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True))
