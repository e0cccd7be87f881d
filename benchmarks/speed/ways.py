"""Ways to a network's importance, each ready to be called: the floor, ours, and others'."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn

from avalanche_mas.importance.engines import reference
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.local import Local
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.objectives import OBJECTIVES
from avalanche_mas.importance.parameters import zeros

from .networks import Case
from .rows import Refused

LOOP_SAMPLES = 4  # each takes as long as any other


@dataclass(frozen=True)
class Ready:
    """A way to importance, made ready for a network and a batch.

    :param call: takes ``samples`` samples; adds their Σ_k |g_k| to ``total``.
    :param samples: how many.
    :param total: parameter name → sum so far; empty for what measures no importance.
    :param note: how network or batch differ from the case as it is.
    """

    call: Callable[[], object]
    samples: int
    total: dict[str, Tensor] = field(default_factory=dict)
    note: str = ""


NORM = OBJECTIVES["norm"]


def network_of(model: nn.Module) -> tuple[Network, dict[str, Tensor]]:
    """F and its parameters, as the engines take them."""
    network = Network(model, lambda model, batch: model(batch))
    return network, network.trainable()


def squares(output: Tensor) -> Tensor:
    """‖F‖², summed over a batch."""
    return output.square().sum()


def twin(model: nn.Module) -> nn.Module:
    """A copy of all but the parameters: those are the same objects, and take no memory again."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, shared)


def plain(case: Case) -> Ready:
    """The floor: forward and backward of a batch, as in any training step."""
    model, x = case.model, case.x

    def call() -> None:
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(squares(model(x)))

    return Ready(call, len(x))


def forward(case: Case) -> Ready:
    """The forward pass alone."""

    @torch.no_grad()
    def call() -> None:
        case.model(case.x)

    return Ready(call, len(case.x))


def exact(case: Case, output: Literal["norm", "vector"] = "norm") -> Ready:
    """Ours, Eq. 2, in the middle of an estimate: the plan is made."""
    network, parameters = network_of(case.model)
    engine, total = Exact(network, parameters, output=output), zeros(parameters)
    engine(case.x, total)
    slow = len(engine.unruled)
    note = f"{slow} of {len(parameters)} tensors by vmap or the loop" if slow else ""
    return Ready(lambda: engine(case.x, total), len(case.x), total, note)


def exact_quarters(case: Case) -> Ready:
    """The same in four calls, for those who would rather have the memory."""
    network, parameters = network_of(case.model)
    engine, total = Exact(network, parameters), zeros(parameters)
    quarters = case.x.chunk(4)
    engine(quarters[0], total)

    def call() -> None:
        for quarter in quarters:
            engine(quarter, total)

    return Ready(call, len(case.x), total)


def exact_first(case: Case) -> Ready:
    """The same for the first batch of an estimate: the plan is made and checked."""
    network, parameters = network_of(case.model)
    return Ready(lambda: Exact(network, parameters)(case.x, zeros(parameters)), len(case.x))


def vector(case: Case) -> Ready:
    """Ours, section 4.1: the norm of each output's gradient, ten backward passes."""
    return exact(case, output="vector")


def local(case: Case) -> Ready:
    """Ours, Eq. 5-7: forward passes only."""
    network, parameters = network_of(case.model)
    engine, total = Local(network, parameters), zeros(parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the note says the same
        engine(case.x, total)
    found = len(parameters) - len(engine.unruled)
    note = "" if found == len(parameters) else f"{found} of {len(parameters)} tensors have a layer"
    return Ready(lambda: engine(case.x, total), len(case.x), total, note)


def avalanche(case: Case) -> Ready:
    """What the loop of MASPlugin in avalanche-lib 0.6.0 does with a batch.

    It is not exact: the gradient is averaged over the batch before the absolute value is taken, and
    the model is in train mode.
    """
    model = twin(case.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    importance = {name: torch.zeros_like(p) for name, p in model.named_parameters()}

    def call() -> None:
        optimizer.zero_grad()
        output = model(case.x)
        torch.autograd.backward(torch.norm(output, p="fro", dim=1).pow(2).mean())
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.grad is not None:
                importance[name] += parameter.grad.abs()

    return Ready(call, len(case.x), importance)


def loop(case: Case) -> Ready:
    """One sample at a time."""
    (network, parameters), few = network_of(case.model), case.x[:LOOP_SAMPLES]
    total = zeros(parameters)
    return Ready(
        lambda: reference.loop(network, parameters, few, total, NORM), len(few), total, _some(few)
    )


def vmap(case: Case) -> Ready:
    """:func:`torch.func.vmap` over as many samples as fit, in one chunk."""
    # on a twin: torch.func leaves other tensors in nn.LSTM's own list of its weights
    (network, parameters), few = network_of(twin(case.model)), case.x[: case.few]
    total = zeros(parameters)

    def call() -> None:
        try:
            with patch.object(reference, "CHUNK_BYTES", 1 << 62):
                reference.vmap(network, parameters, few, total, NORM)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise Refused(first_words(error)) from error

    return Ready(call, len(few), total, _some(few))


def _some(few: Tensor) -> str:
    return f"{len(few)} samples"


def first_words(error: Exception) -> str:
    """The beginning of an error's message, for a table."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 90 else f"{line[:87]}..."
