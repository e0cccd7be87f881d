"""What the engine makes of a model, before any time is spent on its data."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch import nn

from avalanche_mas.importance.batches import (
    Forward,
    batch_size_of,
    model_input,
    to_device,
)
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.finite import check_finite
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.estimate import measuring
from avalanche_mas.importance.parameters import unwrap, zeros
from avalanche_mas.importance.pitfalls import pitfalls

if TYPE_CHECKING:
    import pandas


def check_model(
    model: nn.Module, example: Any, *, forward: Forward | None = None
) -> pandas.DataFrame:
    """How :func:`~avalanche_mas.estimate_importance` will measure each parameter of a model.

    A parameter is measured by the closed form (rule) of each operation that uses it, at the cost of
    an ordinary backward pass. An operation without a rule is vectorised over the samples by vmap.
    Where that cannot be either, the parameter falls back to vmap of the whole network, or to one
    sample at a time: exact as well, but slower. None is left out. The model is not changed.

    A warning says where the importance would not mean what it should: running statistics that no
    penalty protects (BatchNorm), a batch that is normalised as a whole, an output that is random
    in eval mode (dropout left on), constant, of constant length or past a softmax, or an
    importance that is zero throughout.

    :param model: any module.
    :param example: a batch of two or more samples, of any form that ``estimate_importance`` takes.
    :param forward: as for ``estimate_importance``.
    :return: table indexed by ``parameter`` with columns ``measured`` (``"rule"``, ``"vmap"``,
        ``"fallback"`` or ``"unused"``), ``operations`` (its uses), ``reason`` (of a fallback), and
        what it costs, counted for the example, not timed: ``passes`` (forward and backward passes
        through the network until this parameter is measured; the first is shared by all that do
        not fall back, a second by all that do, and without vmap there is one for each sample) and
        ``sample_bytes`` (what vmap keeps of this parameter's gradient for each sample).
    :raises ValueError: for a model without trainable parameters, an example of one sample, which
        does not show where the samples of a batch lie, or an importance that is not finite.
    :raises TypeError: for an example of a form that cannot be understood.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.PReLU())
    >>> table = check_model(model, torch.randn(5, 3))
    >>> table.drop(columns="reason")  # doctest: +NORMALIZE_WHITESPACE
             measured operations  passes  sample_bytes
    parameter
    0.weight     rule     linear       1             0
    0.bias       rule     linear       1             0
    1.weight     vmap      prelu       1             4
    """
    import pandas

    model = unwrap(model)
    network = Network(model, forward)
    parameters = network.trainable()
    device = next(iter(parameters.values())).device
    inputs = to_device(example if forward is not None else model_input(example), device)
    size = batch_size_of(inputs)
    if size < 2:
        raise ValueError(
            f"the example has {size} samples: pass two or more, from which it can be seen where "
            "the samples of a batch lie"
        )
    engine, total = Exact(network, parameters), zeros(parameters)
    with measuring(model):
        for pitfall in pitfalls(network, inputs):
            warnings.warn(pitfall, stacklevel=2)
        with network.guarded():
            inputs = network.mark_shared(inputs)
            engine(inputs, total)
        check_finite(total, network, inputs)
    if not any(bool(omega.any()) for omega in total.values()):
        warnings.warn("every importance is zero on the example", stacklevel=2)
    fallbacks, together = engine.fallbacks, int(len(engine.fallbacks) < len(parameters))
    rows = []
    for name, parameter in parameters.items():
        ways, reason = engine.record.ways.get(name, {}), fallbacks.get(name, "")
        passes, vectorised = 1, False
        if reason:
            measured, vectorised = "fallback", name in engine.unruled and engine.fallback == "vmap"
            passes = together + (1 if vectorised else size)
        elif not ways:
            measured = "unused"
        else:
            vectorised = "vmap" in ways.values()
            measured = "vmap" if vectorised else "rule"
        held = parameter.numel() * parameter.element_size() if vectorised else 0
        rows.append((name, measured, ", ".join(sorted(ways)), reason, passes, held))
    columns = ["parameter", "measured", "operations", "reason", "passes", "sample_bytes"]
    return pandas.DataFrame(rows, columns=columns).set_index("parameter")
