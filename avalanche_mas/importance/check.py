"""What the engine makes of a model, before any time is spent on its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from avalanche_mas.importance.batches import (
    Forward,
    batch_size_of,
    call_model,
    model_input,
    to_device,
)
from avalanche_mas.importance.exact import Exact
from avalanche_mas.importance.names import unwrap
from avalanche_mas.importance.network import Network
from avalanche_mas.importance.planned import zeros
from avalanche_mas.importance.untouched import untouched

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

    :param model: any module.
    :param example: a batch of two or more samples, of any form that ``estimate_importance`` takes.
    :param forward: as for ``estimate_importance``.
    :return: table indexed by ``parameter`` with columns ``measured`` (``"rule"``, ``"vmap"``,
        ``"fallback"`` or ``"unused"``), ``operations`` (its uses) and ``reason`` (of a fallback).
    :raises ValueError: for a model without trainable parameters, or an example of one sample, which
        does not show where the samples of a batch lie.
    :raises TypeError: for an example of a form that cannot be understood.
    """
    import pandas

    model = unwrap(model)
    network = Network(model, forward or call_model)
    parameters = network.trainable()
    device = next(iter(parameters.values())).device
    inputs = to_device(example if forward is not None else model_input(example), device)
    if batch_size_of(inputs) < 2:
        raise ValueError(
            f"the example has {batch_size_of(inputs)} samples: pass two or more, from which it can "
            "be seen where the samples of a batch lie"
        )
    engine = Exact(network, parameters)
    with untouched(model):
        engine(inputs, zeros(parameters))
    rows = []
    for name in parameters:
        ways, reason = engine.record.ways.get(name, {}), engine.unruled.get(name, "")
        if reason:
            measured = "fallback"
        elif not ways:
            measured = "unused"
        else:
            measured = "rule" if all(way == "rule" for way in ways.values()) else "vmap"
        rows.append((name, measured, ", ".join(sorted(ways)), reason))
    columns = ["parameter", "measured", "operations", "reason"]
    return pandas.DataFrame(rows, columns=columns).set_index("parameter")
