"""Numbers that are NaN or infinite: which sample made Ω so, and where that first shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from avalanche_mas.importance.batches import batch_size_of, is_per_sample, leaves_of, take
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.objectives import OBJECTIVES
from avalanche_mas.importance.engines.reference import one_by_one
from avalanche_mas.importance.parameters import named_parameters, wide


class NotFiniteError(ValueError):
    """An importance, or what it is computed from, is NaN or infinite."""


def check_finite(
    total: Mapping[str, Tensor], network: Network, inputs: Any, batch: int = 0
) -> None:
    """Looks for what is not finite, and says where it comes from.

    :param total: parameter name → Σ_k |g_k| so far.
    :param network: F.
    :param inputs: the batch that was added last.
    :param batch: its number, counted from 0.
    :raises NotFiniteError: if a number in ``total`` is NaN or infinite.
    """
    for name, omega in total.items():
        if not bool(omega.isfinite().all()):
            raise NotFiniteError(
                f"the importance of {name!r} is not finite: {_cause(network, inputs, batch)}. "
                "Nothing was changed."
            )


def _cause(network: Network, inputs: Any, batch: int) -> str:
    for name, parameter in named_parameters(network.model).items():
        if not bool(parameter.isfinite().all()):
            return f"the model's own {name!r} holds NaN or infinity, so its training has diverged"
    size = batch_size_of(inputs)
    outputs = [wide(output.detach()).reshape(size, -1) for output in network(inputs)]
    for k in range(size):
        sample = f"sample {k} of batch {batch} (both counted from 0)"
        if not all(bool(output[k].isfinite().all()) for output in outputs):
            if not _is_finite(inputs, k, size):
                return f"{sample} holds NaN or infinity"
            return f"the model's output for {sample} holds NaN or infinity, the sample itself not"
        if not all(bool(output[k].square().sum().isfinite()) for output in outputs):
            return f"the output for {sample} is so large that its square overflows"
    for k in range(size):
        one = take(inputs, slice(k, k + 1), size)
        for name, gradient in one_by_one(network, network.trainable(), one, OBJECTIVES["norm"]):
            if not bool(gradient.isfinite().all()):
                return (
                    f"the gradient at {name!r} of sample {k} of batch {batch} (both counted from "
                    "0) holds NaN or infinity, the output not"
                )
    return f"in batch {batch} (counted from 0) a product or a sum overflows"


def _is_finite(inputs: Any, k: int, size: int) -> bool:
    return all(
        bool(leaf[k].isfinite().all()) for leaf in leaves_of(inputs) if is_per_sample(leaf, size)
    )
