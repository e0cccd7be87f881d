"""Time of importance per sample: every way on every network, against forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from avalanche_mas.importance.engines import reference
from avalanche_mas.importance.parameters import zeros

from . import peers, ways
from .clock import interleave
from .networks import Case, make_case
from .rows import Refused, Row, Section, SpeedSettings
from .ways import Ready, network_of

FLOOR = "forward + backward"
FLOOR_BESIDE = "forward + backward, beside others' ways"
FIRST = "exact, first batch"
QUARTERS = "exact, in quarters of the batch"

WAYS: dict[str, Callable[[Case], Ready]] = {
    FLOOR: ways.plain,
    "forward": ways.forward,
    "exact": ways.exact,
    QUARTERS: ways.exact_quarters,
    FIRST: ways.exact_first,
    "l-MAS": ways.local,
    "vector output": ways.vector,
    "Avalanche MASPlugin": ways.avalanche,
    FLOOR_BESIDE: ways.plain,
    "batch-size-1 loop": ways.loop,
    "torch.func.vmap": ways.vmap,
    "Opacus": peers.opacus,
    "BackPACK": peers.backpack,
}

OURS = ("exact", "l-MAS", "vector output")

EXACT = ("exact", QUARTERS, "batch-size-1 loop", "torch.func.vmap", "Opacus", "BackPACK")
"""Ways that give Eq. 2 exactly; the suite compares them before it times them."""

OTHERS = ("batch-size-1 loop", "torch.func.vmap", "Opacus", "BackPACK")
"""Ways that write out a gradient for each sample.

They run in a process of their own, beside the floor once more. They take gigabytes and give them
back, and after one of them ours was measured a tenth slower on ResNet-18, while the floor was not.
"""

VECTOR_NETWORKS = ("mlp", "lstm")
"""Where ten backward passes through linear and recurrent layers are all that is needed."""


def sections(settings: SpeedSettings, networks: Sequence[str]) -> list[Section]:
    """One for each network, with a process for the ways that go together."""
    return [
        Section("estimation", name, measure, ((name, settings, False), (name, settings, True)))
        for name in networks
    ]


def floor_of(way: str) -> str:
    """The floor that was timed in the same process."""
    return FLOOR_BESIDE if way in OTHERS else FLOOR


def measure(network: str, settings: SpeedSettings, others: bool) -> Iterator[Row]:
    """Seconds per sample.

    :param others: of :data:`OTHERS`, or of all ways but them.
    """
    torch.set_num_threads(settings.threads)
    case = make_case(network, settings.device, settings.quick)
    ready: dict[str, Ready] = {}
    for way in ways_of(network):
        if (way in (FLOOR_BESIDE, *OTHERS)) != others:
            continue
        try:
            ready[way] = WAYS[way](case)
            ready[way].call()  # what it cannot do shows here
            if way in EXACT:
                check(way, case)
        except Refused as refusal:
            ready.pop(way, None)
            yield Row(way, 0, None, str(refusal))
    calls = {way: own.call for way, own in ready.items()}
    for number, way, seconds in interleave(calls, settings.rounds, settings.shortest):
        yield Row(way, number, seconds / ready[way].samples, ready[way].note)


def ways_of(network: str) -> list[str]:
    """The ways that are tried on a network."""
    return [way for way in WAYS if way != "vector output" or network in VECTOR_NETWORKS]


def check(way: str, case: Case) -> None:
    """:raises Refused: if a way's importance is not the loop's, on a few samples."""
    few = replace(case, x=case.x[: case.few])
    ready = WAYS[way](few)
    for total in ready.total.values():
        total.zero_()
    ready.call()
    network, parameters = network_of(case.model)
    truth = zeros(parameters)
    reference.loop(network, parameters, few.x[: ready.samples], truth, ways.NORM)
    if off := disagreeing(ready.total, truth):
        raise Refused(f"wrong: {len(off)} of {len(truth)} tensors, such as {off[0]}")


def disagreeing(ours: dict[str, Tensor], truth: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are off by more than 1 %, round-off of the largest left aside."""
    round_off = 1e-6 * max(float(omega.norm()) for omega in truth.values())
    return [
        name
        for name, omega in truth.items()
        if not float((ours[name] - omega).norm()) <= 0.01 * float(omega.norm()) + round_off
    ]
