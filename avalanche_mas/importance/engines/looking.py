"""What a network asks about the values of its samples, and which samples get the same answers.

``if mask.all()`` may send one sample through other operations than the next. Samples to which the
network asks the same questions and gets the same answers, alone as well as all of them together,
go the same way: they can be measured in one batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avalanche_mas.importance.batches import (
    batch_size_of,
    is_per_sample,
    leaves_of,
    shapes_of,
    take,
)
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.rules.registry import name_of

Way = tuple[Hashable, ...]
"""The answers that a forward pass was given, in order."""

_MAX_REMEMBERED = 1 << 16  # samples


class Looking(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notices what a forward pass is told about the values of its samples.

    PyTorch tags the operators whose result, or its shape, is another one for other values;
    indexing is tagged for the sake of masks, and counts only with one. Operators are seen wherever
    they run, also where torch shows no function that does, and memory that one of them has written
    depends on the samples from then on, whatever view is taken of it. A function that turns a
    tensor into something else, such as ``tolist``, looks as well; torch's functions have to go
    through :meth:`call`.

    :param inputs: the leaves of what goes into the network.
    :param known: ways after which nothing more is asked: the pass ends there, by :class:`Answered`.
    """

    supports_higher_order_operators = True

    def __init__(self, inputs: Iterable[Any] = (), known: Container[Way] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.answers: list[Hashable] = []
        self.asked: frozenset[int] = frozenset()
        """Numbers of the inputs on which the answers depend."""
        self._known = known
        self._only_checks = False
        # memory → what keeps it, so that it is not given out again, and the inputs in it
        self._dependent: dict[int, tuple[Any, frozenset[int]]] = {}
        for number, leaf in enumerate(inputs):
            self.note(leaf, frozenset([number]))

    def note(self, values: Any, sources: frozenset[int]) -> None:
        """From now on, tensors in ``values`` depend on some inputs."""
        for tensor in tree_leaves(values):
            if isinstance(tensor, Tensor):
                key, memory = _memory(tensor)
                _, before = self._dependent.get(key, (None, frozenset()))
                self._dependent[key] = memory, before | sources

    def sources(self, values: Any) -> frozenset[int]:
        """The inputs from which the numbers of tensors in ``values`` come."""
        found = [
            self._dependent[_memory(tensor)[0]][1]
            for tensor in tree_leaves(values)
            if isinstance(tensor, Tensor) and _memory(tensor)[0] in self._dependent
        ]
        return frozenset().union(*found)

    def answer(self, result: Any, sources: frozenset[int]) -> None:
        """Notes what a question about some inputs was answered."""
        if self._only_checks:
            return
        self.answers.append(tuple(_comparable(leaf) for leaf in tree_leaves(result)))
        self.asked |= sources
        if tuple(self.answers) in self._known:
            raise Answered

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Calls a torch function."""
        sources = self.sources((args, kwargs))  # before it may write to one
        before, self._only_checks = self._only_checks, _only_checks(function, args, kwargs)
        try:
            result = function(*args, **kwargs)
        finally:
            self._only_checks = before
        if sources and _reads_memory(function, result):
            self.answer(result, sources)
        return result

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        sources = self.sources((args, kwargs))
        result = func(*args, **kwargs)
        if sources:
            self.note((args, kwargs) if result is None else result, sources)
            if _looks(func, args):
                self.answer(result, sources)
        return result


class Answered(BaseException):
    """Ends a forward pass of which no more has to be known; no error that a model should catch."""


class _Functions(TorchFunctionMode):
    """Hands every torch function to a :class:`Looking`."""

    def __init__(self, looking: Looking) -> None:
        super().__init__()
        self._looking = looking

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self._looking.call(func, args, kwargs or {})


class Group(NamedTuple):
    """Samples that go the same way.

    :param way: the answers that each of them gets, alone; None if that is not known.
    :param batch: the samples.
    :param size: how many they are.
    """

    way: Way | None
    batch: Any
    size: int


class Ways:
    """Tells samples apart by the answers that they give to a network's questions.

    A sample goes through the network alone, as far as its last question. What was asked of the
    same numbers before is remembered: masks of padding are soon all known.

    :param network: F; its parameters stay as they are.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._known: dict[Hashable, set[Way]] = {}  # by the kind of batch, which decides as well
        self._remembered: dict[frozenset[int], dict[Hashable, Way]] = {}

    def of(self, batch: Any) -> Way:
        """The answers that samples give together."""
        return self._ask(batch)[0]

    def groups(self, batch: Any, size: int) -> Iterator[Group]:
        """The samples of a batch by the ways that they go alone."""
        members: dict[Way, list[int]] = {}
        for k in range(size):
            members.setdefault(self._of_sample(batch, k, size), []).append(k)
        for way, rows in members.items():
            group = batch if len(rows) == size else take(batch, torch.tensor(rows), size)
            yield Group(way, group, len(rows))

    def _ask(self, batch: Any) -> tuple[Way, frozenset[int]]:
        known = self._known.setdefault((batch_size_of(batch) > 1, shapes_of(batch)), set())
        prepared = self.network.prepare(batch)
        looking = Looking(leaves_of(prepared.inputs), known)
        try:
            with looking, _Functions(looking):
                prepared.run()
        except Answered:
            pass
        way = tuple(looking.answers)
        known.add(way)
        return way, looking.asked

    def _of_sample(self, batch: Any, k: int, size: int) -> Way:
        for asked, ways in self._remembered.items():
            if (way := ways.get(_key(batch, k, size, asked))) is not None:
                return way
        way, asked = self._ask(take(batch, slice(k, k + 1), size))
        remembered = self._remembered.setdefault(asked, {})
        if len(remembered) < _MAX_REMEMBERED:
            remembered[_key(batch, k, size, asked)] = way
        return way


def _key(batch: Any, k: int, size: int, asked: frozenset[int]) -> Hashable:
    """The numbers of sample k in some inputs, and whatever else the answers may depend on."""
    digest = hashlib.blake2b()
    leaves = leaves_of(batch)
    for number in sorted(asked):
        leaf = leaves[number]
        row = leaf[k] if is_per_sample(leaf, size) else leaf.tensor  # which all samples share
        digest.update(row.detach().reshape(-1).contiguous().cpu().view(torch.uint8).numpy())
    return shapes_of(batch), digest.digest()


def _memory(tensor: Tensor) -> tuple[int, Any]:
    """What identifies a tensor's memory, and what keeps it."""
    try:
        storage = tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):  # sparse, or inside the model's own torch.func
        return id(tensor), tensor
    return storage._cdata, storage


def _comparable(answer: Any) -> Hashable:
    """Of a tensor its shape; what cannot be compared is equal to nothing."""
    if isinstance(answer, Tensor):
        return tuple(answer.shape)
    return answer if isinstance(answer, (bool, int, float, complex, str)) else object()


def _looks(operator: Any, args: tuple[Any, ...]) -> bool:
    if operator is torch.ops.aten.index.Tensor:
        return any(map(_is_mask, args[1]))
    tags = getattr(operator, "tags", (torch.Tag.data_dependent_output,))  # such as torch.cond
    return operator in _UNTAGGED or not _TAGS.isdisjoint(tags)


_TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}

_UNTAGGED = {
    torch.ops.aten._pack_padded_sequence.default,
    torch.ops.aten.masked_scatter.default,
    torch.ops.aten.masked_scatter_.default,
}
"""Operators that depend on values in the same way, and have no tag."""

_METADATA = {
    "__get__", "__hash__", "__len__", "__repr__", "__set__", "backward", "dense_dim", "dim",
    "element_size", "get_device", "has_names", "is_coalesced", "is_complex", "is_conj",
    "is_contiguous", "is_floating_point", "is_inference", "is_neg", "is_pinned", "is_same_size",
    "is_set_to", "is_shared", "is_signed", "ndimension", "nelement", "numel",
    "retain_grad", "size", "sparse_dim", "storage_offset", "stride", "type", "data_ptr",
}  # fmt: skip
"""Calls that ask what a tensor is, not what is in it."""


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _reads_memory(function: Callable[..., Any], result: Any) -> bool:
    """Whether a call turns a tensor into something else, such as ``tolist`` or ``numpy``."""
    leaves = tree_leaves(result)
    return (
        name_of(function) not in _METADATA
        and any(leaf is not None for leaf in leaves)
        and not any(isinstance(leaf, Tensor) for leaf in leaves)
    )


def _only_checks(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether a call looks at values for the sake of an error message alone."""
    classes = args[1] if len(args) > 1 else kwargs.get("num_classes", -1)
    return name_of(function) == "one_hot" and classes != -1  # which is as many as occur
