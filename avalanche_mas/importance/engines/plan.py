"""Where each parameter is used in a forward pass, and where the samples lie there."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.function import BackwardCFunction
from torch.utils._pytree import tree_leaves

from avalanche_mas.importance.batches import (
    entries_of,
    is_per_sample,
    leaves_of,
    map_leaves,
    take,
)
from avalanche_mas.importance.engines.looking import (
    Looking,
    Picked,
    Way,
    comparable,
    reads_memory,
)
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.tracking import Operation, Tracker, is_inplace
from avalanche_mas.importance.rules.registry import Axis, name_of

REPEATING = {"expand", "expand_as", "broadcast_to", "repeat", "tile"}
"""Operations that may give every sample a copy of a parameter, such as a class token."""

ACTIVATION_BYTES = 1 << 25
"""The largest activation that is computed at once. It bounds memory whatever the batch size; on
Linux CPUs larger buffers would also be mapped afresh for each operation, which is slow."""

_LARGE = 1000
"""So many times as large is a sample that shows whether the largest of a batch changes others."""

_EVERY_SAMPLE = frozenset([-1])  # no input of the network, but one of each sample's own
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
    :param mixed: an entry of a tensor matters to the outputs of several samples.
    """

    function: Callable[..., Any]
    names: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    tensors: tuple[bool, ...]
    axes: tuple[Axis | None, ...]
    output_axes: tuple[Axis | None, ...]
    is_view: bool
    derives: bool
    mixed: bool = False

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
    """Whether what the network does depends on values that it computes from the samples, as in
    ``if x.sum() > 0``: what it does with several may then differ from what it does with each. Hooks
    look at gradients, which is the same."""
    joins_samples: bool
    """Whether a sample's output is another one beside other samples, however little."""
    told: Way | None = None
    """What functions such as ``bool`` told it about values; None if it was told more elsewhere."""
    reorders: bool = False
    """Whether the values of the samples decide where each of them lies in a tensor, as where a
    network sorts them by length."""
    functions: tuple[Hashable, ...] = ()
    """All torch functions that were called, in order, see :attr:`.Tracker.functions`."""
    has_own_backward: bool = False
    """Whether a ``torch.autograd.Function`` of the model's is part of it. Its backward pass may do
    anything with the gradients of a batch."""

    def pieces(self, batch: Any, size: int, sample_bytes: int = 0) -> Iterator[Any]:
        """Parts of a batch that stay below :data:`ACTIVATION_BYTES`, of equal size.

        :param sample_bytes: what the measurement keeps of each sample, beside its activations.
        """
        fitting = max(1, ACTIVATION_BYTES // max(1, self.sample_bytes, sample_bytes))
        step = -(-size // -(-size // fitting))
        for start in range(0, size, step):
            yield take(batch, slice(start, start + step), size)

    @property
    def mixes_samples(self) -> bool:
        """Whether some tensor, or the output itself, holds no sample by itself."""
        return self.joins_samples or self.reorders or any(use.mixed for use in self.uses)

    @cached_property
    def has_several_entries(self) -> bool:
        """Whether several entries of a dimension belong to each sample somewhere."""
        axes = (axis for use in self.uses for axis in (*use.axes, *use.output_axes))
        return any(axis is not None and axis.per_sample > 1 for axis in axes)

    @cached_property
    def signature(self) -> tuple[object, ...]:
        """What forward passes of the same operations share, whatever the size of a sample."""

        def kinds(axes: tuple[Axis | None, ...]) -> tuple[object, ...]:
            return tuple(
                axis and axis._replace(per_sample=min(axis.per_sample, 2)) for axis in axes
            )

        uses = tuple(
            (
                use.function,
                use.names,
                use.tensors,
                kinds(use.axes),
                kinds(use.output_axes),
                use.mixed,
            )
            for use in self.uses
        )
        return uses, self.functions, self.reorders, self.has_own_backward

    @cached_property
    def shared(self) -> set[str]:
        """Parameters of which some part is used more than once."""
        return {
            name
            for name, used in self._spans.items()
            for before, after in pairwise(sorted(used))
            if after[0] < before[1]
        }

    @cached_property
    def apart(self) -> set[str]:
        """Parameters of which several parts are used, each once: as long as they lie as they do."""
        return {name for name, used in self._spans.items() if len(used) > 1} - self.shared

    @cached_property
    def _spans(self) -> dict[str, list[tuple[int, int]]]:
        spans: dict[str, list[tuple[int, int]]] = {}
        for use in self.uses:
            if not use.is_view:
                for name, span in zip(use.names, use.spans, strict=True):
                    spans.setdefault(name, []).append(span)
        return spans


def make_plan(
    network: Network,
    parameters: Mapping[str, Tensor],
    batch: Any,
    size: int,
    *,
    by_gradient: bool = True,
    way: Way | None = None,
) -> Plan | None:
    """Where each parameter is used, and which entries of each tensor there belong to which sample.

    The network runs on two and on three samples. The dimension that goes from 2m to 3m holds m
    entries for every sample, so that no shape has to be guessed, even where a sequence happens to
    be as long as the batch. Which of its entries are whose is asked of the gradient: those that
    output j alone reaches belong to sample j. That must hold for the three samples in the opposite
    order as well: a network may sort them, by length or by a score, and the first order may happen
    to be that. Whether samples depend on each other is asked of the output: with another third
    sample, that of the first two must stay the same, bit for bit, and with one of a thousand times
    the size for all that can be seen.

    :param by_gradient: False for forward passes only: entries are then taken to lie sample behind
        sample.
    :return: None if the two passes did not execute the same operations; without uses if that
        depends on the samples' values.
    """
    first, second, third, other = telling_samples(batch, size, 4)
    two = _Probe(parameters)
    two.run(network, take(batch, torch.tensor([first, second]), size))
    three = _Probe(parameters, two.calls)

    def run_three(probe: _Probe, *samples: int) -> list[Tensor]:
        return probe.run(network, take(batch, torch.tensor(samples), size))

    outputs = run_three(three, first, second, third)
    looks = three.has_hooks or (way is None and bool(two.answers or three.answers))
    if [call.function for call in two.calls] != [call.function for call in three.calls]:
        return Plan((), 0, looks, False) if looks else None
    if way is not None and size > 1 and not two.answers == three.answers == way:
        return None
    reached: dict[int, list[Tensor]] = {}
    if by_gradient and not looks:
        once = _reached(outputs, three.asked)  # before a pass that may write to parameters
        turned = _Probe(parameters, two.calls)
        ends = run_three(turned, third, second, first)
        if turned.shown != three.shown:
            return None
        again = _reached(ends, turned.asked)
        reached = {
            id(tensor): once[id(tensor)] + again[id(same)]
            for tensor, same in zip(three.asked, turned.asked, strict=True)
            if id(tensor) in once and id(same) in again
        }
    uses = tuple(use.located(reached) for use in three.uses)

    def changes_with_large() -> bool:
        few = take(batch, torch.tensor([first, second, third]), size)
        large = _with_last_large(few)
        if large is None:
            return False
        probe = _Probe(parameters)
        try:
            ends = probe.run(network, large)
        except Exception:  # a model may refuse such values
            return False
        if probe.answers != three.answers:  # nothing to compare with
            return False
        return any(not _close(a[:2], b[:2]) for a, b in zip(outputs, ends, strict=True))

    def changes_with(last: int) -> bool:
        pairs = zip(outputs, run_three(_Probe(parameters), first, second, last), strict=True)
        return any(not torch.equal(before[:2], after[:2]) for before, after in pairs)

    # what changes by itself, such as forgotten dropout, shows nothing
    joins = not looks and (changes_with_large() or (other != third and changes_with(other)))
    joins = joins and not changes_with(third)
    told = two.told if two.told == three.told else None
    return Plan(
        uses,
        two.largest // 2,
        looks,
        joins,
        told,
        reorders=_reorders(two.picked, three.picked),
        functions=tuple(three.functions),
        has_own_backward=any(isinstance(n, BackwardCFunction) for n in graph_of(outputs)),
    )


def telling_samples(batch: Any, size: int, number: int) -> list[int]:
    """Samples that make a network work: those with the fewest zeros, out of a random few.

    A blank sample, or one that is mostly padding, shows little of what a network does. Only the
    second one is the emptiest that is not blank: a network may put samples or positions into an
    order of their lengths, which shows where one is between others that are longer.
    """
    generator = torch.Generator().manual_seed(size)
    drawn = torch.randperm(size, generator=generator)[: 16 * number]
    filled = torch.zeros(len(drawn))
    for leaf in leaves_of(batch):
        if isinstance(leaf, Tensor) and leaf.dim() > 1 and leaf.shape[0] == size:
            rows = leaf[drawn.to(leaf.device)].detach().flatten(1)
            filled += (rows != 0).sum(1).cpu() / max(1, rows.shape[1])
    chosen = drawn[filled.argsort(descending=True, stable=True)].tolist()
    if (used := int((filled > 0).sum())) > 2:
        chosen.insert(1, chosen.pop(used - 1))
    chosen = chosen[:number]
    return [chosen[i % len(chosen)] for i in range(number)]


class _Seen(NamedTuple):
    """A torch call, as one forward pass shows it.

    :param asked: how many questions about the samples it answered.
    :param told: what it turned a tensor into, if it did.
    """

    function: Callable[..., Any]
    inputs: list[torch.Size | None]
    outputs: list[torch.Size]
    asked: int
    told: Hashable | None


@dataclass
class _LocatedUse:
    """A use, and the tensors of which it has to be found out whose their entries are."""

    use: Use
    inputs: list[Tensor | None]
    outputs: list[Tensor | None]

    @property
    def tensors(self) -> list[Tensor]:
        use = self.use
        if not any(use.output_axes) or use.unclear:
            return []
        pairs = zip((*self.inputs, *self.outputs), (*use.axes, *use.output_axes), strict=True)
        return [tensor for tensor, axis in pairs if tensor is not None and axis is not None]

    def located(self, reached: Mapping[int, list[Tensor]]) -> Use:
        """The use, with axes that tell whose the entries are."""
        use, mixed = self.use, False
        if not self.tensors:
            return use

        def located(axis: Axis | None, tensor: Tensor | None) -> Axis | None:
            nonlocal mixed
            if axis is None or id(tensor) not in reached:
                return axis
            found = _owned(axis, reached[id(tensor)])
            mixed |= found is None
            return found or axis

        outputs = tuple(map(located, use.output_axes, self.outputs))
        inputs = tuple(map(located, use.axes, self.inputs))
        # of what no gradient goes to, such as the data, it is as in the tensors beside it
        inner = {axis.per_sample for axis in (*outputs, *inputs) if axis and axis.inner}
        axes = tuple(
            axis._replace(inner=axis.per_sample in inner)
            if axis and id(tensor) not in reached
            else axis
            for axis, tensor in zip(inputs, self.inputs, strict=True)
        )
        return replace(use, axes=axes, output_axes=outputs, mixed=mixed)


def _with_last_large(three: Any) -> Any:
    """Three samples, the last a thousand times as large; None if no floats go into the network."""
    found = False

    def large(leaf: Any) -> Any:
        nonlocal found
        if not is_per_sample(leaf, 3) or not leaf.is_floating_point():
            return leaf
        found = True
        return torch.cat([leaf[:2], _LARGE * leaf[2:]])

    batch = map_leaves(large, three)
    return batch if found else None


def _close(one: Tensor, other: Tensor) -> bool:
    """Equal but for round-off, which the values beside may change."""
    one, other = one.detach(), other.detach()
    far, size = float((one - other).norm()), float(one.norm())
    return far <= math.sqrt(torch.finfo(one.dtype).eps) * size


def _reorders(two: list[Picked], three: list[Picked]) -> bool:
    """Whether values decide about places along a dimension that grows with the samples."""
    if len(two) != len(three):
        return True
    pairs = zip(two, three, strict=True)
    return any(a.length != b.length and (a.crosses or b.crosses) for a, b in pairs)


def graph_of(outputs: list[Tensor]) -> set[Any]:
    """The nodes through which autograd goes back from some tensors."""
    nodes = [output.grad_fn for output in outputs if output.grad_fn is not None]
    found: set[Any] = set(nodes)
    while nodes:
        for following, _ in nodes.pop().next_functions:
            if following is not None and following not in found:
                found.add(following)
                nodes.append(following)
    return found


def _owned(axis: Axis, reached: list[Tensor]) -> Axis | None:
    """The axis, with its entries in the order of samples that the gradients of outputs show.

    :param reached: for each sample's output, which entries of the tensor its gradient reaches;
        for the samples in one order, then in the other.
    :return: None if that is no order: an entry matters to several samples.
    """
    samples = len(reached) // 2
    rows = torch.arange(samples * axis.per_sample)
    for inner, owner in (False, rows // axis.per_sample), (True, rows % samples):
        others = (_entries(axis, hit)[owner != i % samples] for i, hit in enumerate(reached))
        if not any(bool(entries.any()) for entries in others):
            return axis._replace(inner=inner)
    return None


def _entries(axis: Axis, reached: Tensor) -> Tensor:
    return reached.movedim(axis.dim, 0).unsqueeze(-1).flatten(1).any(1).cpu()


def _reached(outputs: list[Tensor], tensors: list[Tensor]) -> dict[int, list[Tensor]]:
    """``id(tensor)`` → for each sample, which of the tensor's entries its own output depends on."""
    ends = [output for output in outputs if output.requires_grad]
    wanted = [tensor for tensor in {id(t): t for t in tensors}.values() if tensor.requires_grad]
    if not ends or not wanted:
        return {}
    generator = torch.Generator().manual_seed(0)
    found: dict[int, list[Tensor]] = {id(tensor): [] for tensor in wanted}
    for j in range(len(ends[0])):
        starts = []
        for end in ends:
            start = torch.zeros_like(end)
            start[j] = torch.randn(end[j].shape, generator=generator).to(end)
            starts.append(start)
        gradients = torch.autograd.grad(ends, wanted, starts, allow_unused=True, retain_graph=True)
        for tensor, gradient in zip(wanted, gradients, strict=True):
            if gradient is not None:
                found[id(tensor)].append(gradient != 0)
    return {key: reached for key, reached in found.items() if reached}


class _Probe(Tracker):
    """Writes down every torch call, and where parameters are used.

    :param parameters: canonical name → parameter.
    :param fewer: the calls of a pass with a sample less, from which it shows how shapes grow.
    """

    def __init__(self, parameters: Mapping[str, Tensor], fewer: list[_Seen] | None = None) -> None:
        super().__init__(parameters)
        self._fewer = fewer
        self.calls: list[_Seen] = []
        self.uses: list[_LocatedUse] = []
        self.largest = 0
        self.has_hooks = False
        self._looking = Looking()

    def run(self, network: Network, samples: Any) -> list[Tensor]:
        """One forward pass."""
        prepared = network.prepare(samples)
        leaves = leaves_of(prepared.inputs)
        own = [leaf for leaf in leaves if entries_of(leaf) == prepared.size]
        plain = not all(isinstance(leaf, Tensor) for leaf in own)
        self._looking = Looking(leaves, size=prepared.size, plain=plain)
        modules = prepared.module.modules()
        self.has_hooks = any(m._backward_hooks or m._backward_pre_hooks for m in modules)
        with self._looking, self:
            return prepared.run()

    @property
    def shown(self) -> list[tuple[object, ...]]:
        """What ran, and the shapes of what it was given and gave."""
        return [(call.function, call.inputs, call.outputs) for call in self.calls]

    @property
    def asked(self) -> list[Tensor]:
        """The tensors of which it has to be found out whose their entries are."""
        return [tensor for use in self.uses for tensor in use.tensors]

    @property
    def answers(self) -> Way:
        """What the network was told about the values of the samples."""
        return tuple(self._looking.answers)

    @property
    def picked(self) -> list[Picked]:
        """Where values decide what lies where."""
        return self._looking.picked

    @property
    def told(self) -> Way | None:
        """What functions turned tensors into; None if something was asked in another way."""
        shown = sum(call.asked for call in self.calls if call.told is not None)
        if shown < len(self.answers):
            return None
        return tuple(call.told for call in self.calls if call.told is not None)

    def handle(self, operation: Operation) -> Any:
        inputs = [leaf if isinstance(leaf, Tensor) else None for leaf in operation.leaves]
        shapes = [None if leaf is None else leaf.shape for leaf in inputs]
        spans = self.spans(operation.leaves)
        result = self._run(operation, shapes)
        if name_of(operation.function) in REPEATING:
            result = result.clone()  # the copies belong to the samples, no more to the parameter
            self._looking.note(result, _EVERY_SAMPLE)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        axes, output_axes = self._axes(shapes, [output.shape for output in outputs])
        target = inputs[0] if name_of(operation.function) == "__setitem__" else None
        if target is not None and not self.find(target):  # it returns nothing, and changes that
            outputs, output_axes = [target], axes[:1]
        is_view = all(self.find(output) or not output.requires_grad for output in outputs)
        derives = not is_view and not any(output_axes) and self._derives(operation, outputs)
        if derives:
            result = self.add_derived(result, operation.names)
        use = Use(
            operation.function,
            operation.names,
            spans,
            tuple(leaf is not None for leaf in inputs),
            axes,
            output_axes,
            is_view,
            derives,
        )
        self.uses.append(_LocatedUse(use, list(inputs), list(outputs)))
        return result

    def pass_by(self, operation: Operation) -> Any:
        shapes = [leaf.shape if isinstance(leaf, Tensor) else None for leaf in operation.leaves]
        return self._run(operation, shapes)

    def _axes(
        self, inputs: list[torch.Size | None], outputs: list[torch.Size]
    ) -> tuple[tuple[Axis | None, ...], tuple[Axis | None, ...]]:
        place = len(self.calls) - 1
        if self._fewer is None or place >= len(self._fewer):
            return (None,) * len(inputs), (None,) * len(outputs)
        fewer = self._fewer[place]
        return _grown(fewer.inputs, inputs), _grown(fewer.outputs, outputs)

    def _run(self, operation: Operation, shapes: list[torch.Size | None]) -> Any:
        before = len(self._looking.answers)
        result = self._looking.call(operation.function, operation.args, operation.kwargs)
        asked = len(self._looking.answers) - before
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.largest = max(self.largest, *(t.numel() * t.element_size() for t in outputs), 0)
        told = comparable(result) if reads_memory(operation.function, result) else None
        shown = [output.shape for output in outputs]
        self.calls.append(_Seen(operation.function, shapes, shown, asked, told))
        return result

    def _derives(self, operation: Operation, outputs: list[Tensor]) -> bool:
        return (
            bool(outputs)
            and not any(map(is_functorch_wrapped_tensor, outputs))
            and not self._looking.sources(outputs)
            and name_of(operation.function) not in REPEATING
            and not is_inplace(operation)
        )


def _grown(two: list[Any], three: list[Any]) -> tuple[Axis | None, ...]:
    """Where each tensor of a call grows from two samples to three."""
    if len(two) != len(three):
        return (_UNCLEAR,) * len(three)
    return tuple(_axis(a, b) for a, b in zip(two, three, strict=True))


def _axis(two: torch.Size | None, three: torch.Size | None) -> Axis | None:
    if two == three:  # of what is empty, no sample has a part: another sample may have one
        return Axis(two.index(0), 0) if two is not None and 0 in two else None
    if two is None or three is None or len(two) != len(three):
        return _UNCLEAR
    grown = [dim for dim, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
    if len(grown) != 1 or two[grown[0]] % 2 or two[grown[0]] * 3 != three[grown[0]] * 2:
        return _UNCLEAR
    return Axis(grown[0], two[grown[0]] // 2)
