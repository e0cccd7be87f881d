"""Where importance can be measured, but would not mean what it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from avalanche_mas.importance.batches import batch_size_of, is_per_sample, leaves_of
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.parameters import wide

_EQUAL = 1e-4  # relative; twice the same on a GPU differs by some 1e-6


def pitfalls(network: Network, inputs: Any) -> Iterator[str]:
    """What a network does that makes its importance less than it seems, a sentence for each.

    :param network: F, in eval mode, and to be left as it is by the caller.
    :param inputs: two or more samples.
    """
    modules = list(network.model.named_modules())
    if moving := [name for name, m in modules if getattr(m, "running_mean", None) is not None]:
        yield (
            f"the running statistics of {_some(moving)} are not parameters: training on a later "
            "task moves them, and no penalty holds them. Keep these layers in eval mode after the "
            "first task, or use GroupNorm or LayerNorm."
        )
    if mixing := [n for n, m in modules if isinstance(m, _BatchNorm) and m.running_mean is None]:
        yield (
            f"{_some(mixing)} normalise over the batch in eval mode as well (track_running_stats="
            "False). Importance is that of a sample alone, which is not what training sees."
        )
    network.look_out(inputs)
    outputs = [output.detach() for output in network(inputs)]
    first = _rows(outputs)
    if not bool(first.isfinite().all()):
        return  # an error will say so
    if not _close(first, _rows(network(inputs)).detach()):
        yield (
            "two passes over the example in eval mode give different outputs. Something random "
            "is left on, such as functional dropout without training=self.training, or the "
            "model changes itself: importance would be that of a single draw."
        )
    yield from _of_output(first, outputs, _vary(inputs))


def _of_output(rows: Tensor, outputs: list[Tensor], inputs_vary: bool) -> Iterator[str]:
    if inputs_vary and _close(rows, rows[:1].expand_as(rows)):
        yield "the output is the same for all samples of the example"
        return
    scores = wide(outputs[0])
    if len(outputs) == 1 and scores.dim() > 1 and scores.shape[1] > 1:
        for name, p in ("softmax", scores), ("log_softmax", scores.exp()):
            sums = p.sum(1)
            if bool((p >= 0).all()) and _close(sums, torch.ones_like(sums)):
                yield (
                    f"the output looks like that of a {name}. MAS measures the output before it: "
                    "what is left of its square says how sure the network is, and little else."
                )
                return
    norms = rows.norm(dim=1)
    if rows.shape[1] > 1 and _close(norms, norms[:1].expand_as(norms)) and inputs_vary:
        yield (
            "the output has the same length for all samples, as if normalised: ‖F‖² (Eq. 2) "
            "cannot be sensitive to anything then. Use output='vector' (section 4.1), or measure "
            "before the normalisation."
        )


def _rows(outputs: list[Tensor]) -> Tensor:
    """The whole output, a row for each sample."""
    return torch.cat([wide(output).reshape(len(output), -1) for output in outputs], 1)


def _vary(inputs: Any) -> bool:
    size = batch_size_of(inputs)
    leaves = [leaf for leaf in leaves_of(inputs) if is_per_sample(leaf, size)]
    return any(bool((leaf != leaf[:1]).any()) for leaf in leaves)


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= _EQUAL * b.norm())


def _some(names: list[str]) -> str:
    """The first three names, and how many more."""
    shown = ", ".join(repr(name) if name else "the model itself" for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
