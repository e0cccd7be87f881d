"""Where each parameter is used in a forward pass, and where the samples lie there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from avalanche_mas.importance.batches import take
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.tracking import Operation, Tracker, is_inplace
from avalanche_mas.importance.rules.registry import Axis, name_of

REPEATING = {"expand", "expand_as", "broadcast_to", "repeat", "tile"}
"""Operations that may give every sample a copy of a parameter, such as a class token."""

ACTIVATION_BYTES = 1 << 25
"""The largest activation that is computed at once. It bounds memory whatever the batch size; on
Linux CPUs larger buffers would also be mapped afresh for each operation, which is slow."""

_LOOKING = {"__bool__", "__float__", "__index__", "__int__", "item", "numpy", "tolist"}
"""Operations that turn a tensor into Python's or numpy's values."""

_UNCLEAR = Axis(-1, 0)  # a tensor that changes with the number of samples in no simple way


@dataclass(frozen=True)
class Use:
    """One torch call that takes a parameter.

    :param function: the torch function.
    :param names: canonical names of the parameters among its arguments.
    :param spans: for each of them, the range of its storage that is used.
    :param tensors: which leaves of ``(args, kwargs)`` are tensors.
    :param axes: where the samples lie, for each leaf of ``(args, kwargs)``; None if nowhere.
    :param output_axes: the same for each tensor of the result.
    :param is_view: the result is still the parameter's memory, or no gradient flows through it.
    :param derives: the result is computed from parameters alone, whatever the samples.
    """

    function: Callable[..., Any]
    names: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    tensors: tuple[bool, ...]
    axes: tuple[Axis | None, ...]
    output_axes: tuple[Axis | None, ...]
    is_view: bool
    derives: bool

    @property
    def unclear(self) -> bool:
        """Whether the samples could not be located."""
        axes = self.axes + self.output_axes
        return _UNCLEAR in axes or (self.derives and any(axes))


@dataclass(frozen=True)
class Plan:
    """All uses of parameters in one forward pass, in the order of their execution."""

    uses: tuple[Use, ...]
    sample_bytes: int
    """Memory of one sample's largest activation."""
    looks_at_values: bool
    """Whether the network asks for the value of a tensor, as in ``if x.sum() > 0``: what it does
    with several samples may then differ from what it does with each of them."""

    def pieces(self, batch: Any, size: int, sample_bytes: int = 0) -> Iterator[Any]:
        """Parts of a batch that stay below :data:`ACTIVATION_BYTES`, of equal size.

        :param sample_bytes: what the measurement keeps of each sample, beside its activations.
        """
        fitting = max(1, ACTIVATION_BYTES // max(1, self.sample_bytes, sample_bytes))
        step = -(-size // -(-size // fitting))
        for start in range(0, size, step):
            yield take(batch, slice(start, start + step), size)

    @cached_property
    def signature(self) -> tuple[object, ...]:
        """What two forward passes have in common when the same operations ran."""
        return tuple(
            (use.function, use.names, use.tensors, use.axes, use.output_axes) for use in self.uses
        )

    @cached_property
    def shared(self) -> set[str]:
        """Parameters of which some part is used more than once."""
        spans: dict[str, list[tuple[int, int]]] = {}
        for use in self.uses:
            if not use.is_view:
                for name, span in zip(use.names, use.spans, strict=True):
                    spans.setdefault(name, []).append(span)
        return {
            name
            for name, used in spans.items()
            for before, after in pairwise(sorted(used))
            if after[0] < before[1]
        }


@dataclass(frozen=True)
class _Seen:
    """A use as one forward pass shows it: with shapes, not yet knowing what they mean."""

    function: Callable[..., Any]
    names: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    inputs: list[torch.Size | None]
    outputs: list[torch.Size | None]
    is_view: bool
    derives: bool


class _Probe(Tracker):
    """Writes down every use, and the size of the largest tensor.

    :param parameters: canonical name → parameter.
    :param batch: what the network runs on; all that is computed from it depends on the samples.
    :param growing: which of the tensors created in the forward pass have an entry for each sample,
        such as the initial state of a recurrent layer.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], batch: Any, growing: Collection[int]
    ) -> None:
        super().__init__(parameters)
        self.created: list[torch.Size] = []
        self._growing = growing
        self.largest = 0
        self.looks_at_values = False
        self.seen: list[_Seen] = []
        self._dependent = WeakTensorKeyDictionary()  # used as a set
        self._note_dependent(batch)

    def handle(self, operation: Operation) -> Any:
        inputs = _shapes(operation.leaves)
        result = self._run(operation)
        if name_of(operation.function) in REPEATING:
            result = result.clone()  # the copies belong to the samples, no more to the parameter
            self._note_dependent(result)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        spans = tuple(_span(leaf) for leaf in operation.leaves if self.find(leaf))
        is_view = all(self.find(output) or not output.requires_grad for output in outputs)
        derives = not is_view and self._derives(operation, result)
        if derives:
            result = self.add_derived(result, operation.names)
        function, names, shapes = operation.function, operation.names, _shapes(outputs)
        self.seen.append(_Seen(function, names, spans, inputs, shapes, is_view, derives))
        return result

    def pass_by(self, operation: Operation) -> Any:
        self.looks_at_values |= name_of(operation.function) in _LOOKING
        result = self._run(operation)
        created = not any(isinstance(leaf, Tensor) for leaf in operation.leaves)
        if created and isinstance(result, Tensor):
            if len(self.created) in self._growing:
                self._note_dependent(result)
            self.created.append(result.shape)
        return result

    def _run(self, operation: Operation) -> Any:
        result = operation.run()
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.largest = max(self.largest, leaf.numel() * leaf.element_size())
        if any(isinstance(leaf, Tensor) and leaf in self._dependent for leaf in operation.leaves):
            self._note_dependent(result)
            if is_inplace(operation):
                self._note_dependent((operation.args[:1], operation.kwargs.get("out")))
        return result

    def _note_dependent(self, values: Any) -> None:
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor) and not self.find(leaf):
                self._dependent[leaf] = True

    def _derives(self, operation: Operation, result: Any) -> bool:
        return (
            isinstance(result, Tensor)
            and result not in self._dependent
            and name_of(operation.function) not in REPEATING
            and not is_inplace(operation)
        )


def make_plan(
    network: Network, parameters: Mapping[str, Tensor], batch: Any, size: int
) -> Plan | None:
    """Where each parameter is used, and which dimension of each tensor there counts samples.

    The network runs on two and on three copies of the batch's first sample: the dimension that
    goes from 2m to 3m holds m entries for every sample. No shape has to be guessed, even where a
    sequence happens to be as long as the batch.

    :return: None if the two passes did not execute the same operations.
    """
    two, three = _probes(network, parameters, batch, size, ())
    sizes = zip(two.created, three.created, strict=False)
    if growing := [i for i, (a, b) in enumerate(sizes) if a != b]:
        two, three = _probes(network, parameters, batch, size, growing)
    if [(a.function, a.names) for a in two.seen] != [(b.function, b.names) for b in three.seen]:
        return None
    uses = (
        Use(
            a.function,
            a.names,
            a.spans,
            tuple(shape is not None for shape in a.inputs),
            _axes(a.inputs, b.inputs),
            _axes(a.outputs, b.outputs),
            a.is_view,
            a.derives,
        )
        for a, b in zip(two.seen, three.seen, strict=True)
    )
    return Plan(tuple(uses), two.largest // 2, two.looks_at_values)


def _probes(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    size: int,
    growing: Collection[int],
) -> list[_Probe]:
    probes = []
    for copies in (2, 3):
        samples = take(batch, torch.zeros(copies, dtype=torch.long), size)
        probes.append(_Probe(parameters, samples, growing))
        with probes[-1]:
            network(samples)
    return probes


def _span(view: Tensor) -> tuple[int, int]:
    start = int(view.storage_offset())
    reach = sum((n - 1) * s for n, s in zip(view.shape, view.stride(), strict=True))
    return start, start + reach + 1


def _shapes(leaves: list[Any]) -> list[torch.Size | None]:
    return [leaf.shape if isinstance(leaf, Tensor) else None for leaf in leaves]


def _axes(two: list[torch.Size | None], three: list[torch.Size | None]) -> tuple[Axis | None, ...]:
    if len(two) != len(three):
        return (_UNCLEAR,)
    return tuple(_axis(a, b) for a, b in zip(two, three, strict=True))


def _axis(two: torch.Size | None, three: torch.Size | None) -> Axis | None:
    if two == three:
        return None
    if two is None or three is None or len(two) != len(three):
        return _UNCLEAR
    grown = [dim for dim, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
    if len(grown) != 1 or two[grown[0]] % 2 or two[grown[0]] * 3 != three[grown[0]] * 2:
        return _UNCLEAR
    return Axis(grown[0], two[grown[0]] // 2)
