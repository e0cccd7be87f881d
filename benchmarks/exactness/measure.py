"""Measures one network: its importance against the naive loop, and what the importance costs."""

from __future__ import annotations

import copy
import functools
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from avalanche_mas import Importance, check_model, estimate_importance

from .case import Batch, Case, blank, concatenated, rows, size, to_dtype, trimmed
from .naive import casts, sensitivity, squared_norm

_Omega = dict[str, Tensor]
_Data = tuple[list[Batch], list[_Omega]]  # batches, and what each of their samples is worth

UNALTERED = "as they are"
"""The name of the samples without a change."""
COST_SAMPLES = (16, 128)
"""Of a batch that is timed: the first number, doubled while a pass is short, up to the second."""
COST_SECONDS = 0.02
"""That a plain pass should last, so that it is more than the start of its operations."""
COST_ROUNDS = 3


@dataclass
class Row:
    """What is known of one network."""

    source: str
    network: str
    parameters: int = 0
    casts: bool = False
    """Whether the network computes in float32 itself, so that round-off is float32's."""
    errors: dict[str, float] = field(default_factory=dict)
    """Data → the largest relative error of a parameter's Ω."""
    where: dict[str, str] = field(default_factory=dict)
    """Data → the parameter that has it."""
    refused: dict[str, str] = field(default_factory=dict)
    """What was tried → the error that it ended in."""
    reports: list[str] = field(default_factory=list)
    """What the package says about the network that is not so."""
    ways: dict[str, float] = field(default_factory=dict)
    """rule, vmap, loop or unused → the share of parameters that are measured so."""
    fallbacks: list[str] = field(default_factory=list)
    """The reasons why parameters fell back, the most frequent first."""
    cost: float | None = None
    """Seconds of a further batch over those of a forward and backward pass."""
    seconds: float = 0.0
    """That all of this took."""


def measure(case: Case) -> Row:
    """Everything about one network; what fails becomes a part of the row."""
    start = time.perf_counter()
    row = Row(case.source, case.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model, batch = case.make()
            row.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
            row.casts = casts(model, batch)
            single = [sensitivity(model, rows(batch, [k])) for k in range(size(batch))]
            _check_finite(single)
        except Exception as error:
            row.refused["the network itself"] = _reason(error)
        else:
            if omega := _compare(row, model, batch, single):
                _ways(row, model, batch, omega)
            _cost(row, model, batch)
    row.seconds = time.perf_counter() - start
    return row


def _check_finite(single: list[_Omega]) -> None:
    """:raises ValueError: if the network's own gradient holds NaN or infinity."""
    for k, omega in enumerate(single):
        for name, own in omega.items():
            if not bool(own.isfinite().all()):
                raise ValueError(f"plain autograd's gradient of {name} at sample {k} is not finite")


def relative_error(ours: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> tuple[float, str]:
    """The largest error of a parameter's Ω, and that parameter.

    It is relative to the norm of the true Ω, but not to less than a millionth of the network's
    largest entry in each entry: where the gradient is zero in theory (a bias before InstanceNorm),
    both sides are round-off.
    """
    largest = max(float(omega.max()) for omega in truth.values() if omega.numel())
    worst, where = 0.0, ""
    for name, omega in truth.items():
        if name not in ours:
            return math.inf, name
        floor = 1e-6 * largest * omega.numel() ** 0.5
        error = float((ours[name] - omega).norm()) / max(float(omega.norm()), floor, 1e-300)
        if math.isnan(error):
            return error, name
        if error > worst:
            worst, where = error, name
    return worst, where


def _compare(row: Row, model: nn.Module, batch: Batch, single: list[_Omega]) -> Importance | None:
    """On the samples as they are, and on data that engines have erred on.

    :return: the importance on the samples as they are, if there is one.
    """
    found = None
    for name, alter in ALTERED.items():
        try:
            batches, each = alter(model, batch, single)
            _check_finite(each)
        except Exception:
            continue  # the network takes no such data
        truth = {
            key: functools.reduce(torch.add, (s[key] for s in each)) / len(each)
            for key in single[0]
        }
        own = copy.deepcopy(model)
        try:
            omega = estimate_importance(own, batches)
        except Exception as error:
            row.refused[name] = _reason(error)
            continue
        row.errors[name], row.where[name] = relative_error(omega, truth)
        if trace := _difference(model, own):
            row.reports.append(f"{name}: {trace}")
        found = omega if alter is _unaltered else found
    return found


def _unaltered(model: nn.Module, batch: Batch, single: list[_Omega]) -> _Data:
    return [rows(batch, slice(None))], single


def _last_of_one(model: nn.Module, batch: Batch, single: list[_Omega]) -> _Data:
    return [rows(batch, slice(-1)), rows(batch, slice(-1, None))], single


def _blank_first(model: nn.Module, batch: Batch, single: list[_Omega]) -> _Data:
    nothing = blank(batch)
    return [concatenated([nothing] * 3 + [batch])], [sensitivity(model, nothing)] * 3 + single


def _ragged(model: nn.Module, batch: Batch, single: list[_Omega]) -> _Data:
    """The second batch is shorter or narrower than the first."""
    half = size(batch) // 2
    shorter = trimmed(rows(batch, slice(half, None)))
    others = [sensitivity(model, rows(shorter, [k])) for k in range(size(shorter))]
    return [rows(batch, slice(half)), shorter], single[:half] + others


ALTERED: dict[str, Callable[[nn.Module, Batch, list[_Omega]], _Data]] = {
    UNALTERED: _unaltered,
    "last batch of one": _last_of_one,
    "blank first": _blank_first,
    "ragged": _ragged,
}
"""What the samples are made into."""


def _difference(before: nn.Module, after: nn.Module) -> str:
    """What an estimate left behind in a model; empty if nothing."""
    state = after.state_dict()
    for name, tensor in before.state_dict().items():
        if not torch.equal(tensor, state[name]):
            return f"{name} was changed"
    for (name, old), new in zip(before.named_modules(), after.modules(), strict=True):
        if old.training != new.training or vars(old).keys() != vars(new).keys():
            return f"module {name!r} has another mode or other attributes than before"
    try:
        copy.deepcopy(after)
    except Exception as error:
        return f"the model cannot be copied any more ({_reason(error)})"
    return ""


def _ways(row: Row, model: nn.Module, batch: Batch, omega: Importance) -> None:
    """How each parameter is measured, and whether two reports of that agree."""
    try:
        table = check_model(copy.deepcopy(model), rows(batch, slice(None)))
    except Exception as error:
        row.refused["check_model"] = _reason(error)
        return
    count: Counter[str] = Counter()
    for name, measured, held in zip(
        table.index, table["measured"], table["sample_bytes"], strict=True
    ):
        way = ("vmap" if held else "loop") if measured == "fallback" else measured
        if (measured == "fallback") != (name in omega.fallbacks):
            row.reports.append(f"{name}: check_model says {measured}, fallbacks do not agree")
        if measured == "unused" and bool(omega[name].any()):
            row.reports.append(f"{name}: unused for check_model, but its Ω is not zero")
        count[way] += omega[name].numel()
    row.ways = {way: number / row.parameters for way, number in count.items()}
    row.fallbacks = [reason for reason, _ in Counter(omega.fallbacks.values()).most_common()]


def _cost(row: Row, model: nn.Module, batch: Batch) -> None:
    """Both sides in turn, in float32; the least of each counts."""
    model, few = copy.deepcopy(model).float(), to_dtype(batch, torch.float32)
    twin = copy.deepcopy(model)
    ours: list[float] = []
    plain: list[float] = []

    def plain_pass() -> float:
        start = time.perf_counter()
        torch.autograd.backward(squared_norm(twin, rows(many, slice(None))))
        twin.zero_grad()
        return time.perf_counter() - start

    def batches() -> Iterator[Batch]:
        """Times the plain pass before each batch, and how long the engine is busy with it."""
        for _ in range(1 + COST_ROUNDS):
            plain.append(plain_pass())
            start = time.perf_counter()
            yield rows(many, slice(None))
            ours.append(time.perf_counter() - start)

    samples, most = COST_SAMPLES
    try:
        while True:
            many = rows(few, [k % size(few) for k in range(samples)])
            plain_pass()
            if samples == most or plain_pass() > COST_SECONDS:
                break
            samples *= 2
    except Exception:
        return  # it cannot be trained as it is
    try:
        estimate_importance(model, batches())
    except Exception as error:
        row.refused["float32"] = _reason(error)
    else:
        row.cost = min(ours[1:]) / min(plain[1:])  # the first batch is planned, too


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]
