"""What a network asks about the values of its samples: ``if mask.all()``."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avalanche_mas.importance.rules.registry import name_of

Way = tuple[Hashable, ...]
"""The answers that a forward pass was given, in order."""


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
    :param size: of how many samples it is to be noticed what their values put where; 0: of none.
    :param plain: whether each has plain values as well, such as its length in a list. Those leave
        no trace, so any numbers that entries are picked by may come from them.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        inputs: Iterable[Any] = (),
        known: Container[Way] = (),
        size: int = 0,
        plain: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.answers: list[Hashable] = []
        self.asked: frozenset[int] = frozenset()
        """Numbers of the inputs on which the answers depend."""
        self.reaching: frozenset[int] = frozenset()
        """Those from whose numbers the outputs are computed, as far as torch sees it."""
        self.told: frozenset[int] = frozenset()
        """Those whose numbers were turned into Python's, or NumPy's."""
        self.picked: list[Picked] = []
        """Where the samples' values decide what lies where."""
        self._known, self._size, self._plain = known, size, plain
        self._only_checks = self._ended = False
        # memory → what keeps it, so that it is not given out again, and the inputs in it
        self._dependent: dict[int, tuple[Any, frozenset[int]]] = {}
        for number, leaf in enumerate(inputs):
            self.note(leaf, frozenset([number]))

    @property
    def used(self) -> frozenset[int]:
        """The inputs that matter to the outputs, in one way or another."""
        return self.asked | self.reaching

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
        if self._only_checks or self._ended:
            return
        self.answers.append(comparable(result))
        self.asked |= sources
        if not all(isinstance(leaf, (bool, Tensor)) for leaf in tree_leaves(result)):
            self.told |= sources
        if tuple(self.answers) in self._known:
            self._ended = True  # also if the model catches everything
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
        if sources and reads_memory(function, result):
            self.answer(result, sources)
        return result

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        sources = self.sources((args, kwargs))
        if sources and self._size:
            self.picked += self._picked(func, args, kwargs)
        result = func(*args, **kwargs)
        if sources:
            self.note((args, kwargs) if result is None else result, sources)
            if _looks(func, args):
                self.answer(result, sources)
        return result

    def _picked(self, operator: Any, args: tuple[Any, ...], kwargs: Any) -> list[Picked]:
        """Where an operator picks or sorts entries by values.

        What it picks by and what it picks from must both depend on the samples: a table does not,
        nor do the numbers of the samples themselves, ``h[arange(B), last]``.
        """
        packet = getattr(operator, "overloadpacket", None)
        if packet in _SORTING:
            given = [arg for arg in args[_SORTING[packet] :] if type(arg) is int]
            dim = kwargs.get("dim", given[0] if given else -1)
            return [Picked(n, True) for n in args[0].shape[dim : dim + 1 or None]]
        places: list[tuple[int, Any]]
        if packet in _INDEXING:
            target, indices, *values = args
            places = [(target.shape[dim], index) for dim, index in enumerate(indices)]
        elif packet in _PICKING:
            target, dim, index, *values = args
            places = [(target.shape[dim] if target.dim() else 1, index)]
        elif packet in _LOOKING_UP:
            target, index, *values = args
            places = [(target.numel() if packet in _FLAT else len(target), index)]
        else:
            return []
        if not self.sources((target, values, kwargs)):
            return []
        return [
            Picked(length, self._crosses(index, length))
            for length, index in places
            if not (index is None or _is_mask(index)) and (self._plain or self.sources(index))
        ]

    def _crosses(self, index: Tensor, length: int) -> bool:
        """Whether it is not clear that each sample picks among its own entries.

        It is where there is an offset for each, ``x[neighbours + points * arange(B)]``. Where all
        entries are picked in their order, they may be in it by chance.
        """
        size = self._size
        if length % size or index.numel() % size or is_functorch_wrapped_tensor(index):
            return True
        rows = index.detach().reshape(size, -1) % max(1, length)
        if rows.numel() == length and torch.equal(rows.flatten().cpu(), torch.arange(length)):
            return True
        own = torch.arange(size, device=rows.device)[:, None]
        return bool((rows // max(1, length // size) != own).any())


class Picked(NamedTuple):
    """Values of samples that decide which entries go where along a dimension.

    :param length: of the dimension.
    :param crosses: whether they may be entries of other samples.
    """

    length: int
    crosses: bool


class Answered(BaseException):
    """Ends a forward pass of which no more has to be known; no error that a model should catch."""


class Functions(TorchFunctionMode):
    """Hands every torch function to a :class:`Looking`."""

    def __init__(self, looking: Looking) -> None:
        super().__init__()
        self._looking = looking

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self._looking.call(func, args, kwargs or {})


def _memory(tensor: Tensor) -> tuple[int, Any]:
    """What identifies a tensor's memory, and what keeps it."""
    try:
        storage = tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):  # sparse, or inside the model's own torch.func
        return id(tensor), tensor
    return storage._cdata, storage


def comparable(result: Any) -> Hashable:
    """An answer as it is kept: of tensors their shapes; what cannot be compared equals nothing."""
    return tuple(map(_comparable, tree_leaves(result)))


def _comparable(leaf: Any) -> Hashable:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape)
    return leaf if isinstance(leaf, (bool, int, float, complex, str)) else object()


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

_aten = torch.ops.aten
_SORTING = {_aten.sort: 1, _aten.topk: 2}
"""Operators that sort, and their first argument that may be a dimension."""
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_PICKING = {
    *(_aten.gather, _aten.index_select, _aten.index_add, _aten.index_add_, _aten.index_copy),
    *(_aten.index_copy_, _aten.scatter, _aten.scatter_, _aten.scatter_add, _aten.scatter_add_),
    *(_aten.scatter_reduce, _aten.scatter_reduce_, _aten.index_reduce, _aten.index_reduce_),
    *(_aten.index_fill, _aten.index_fill_),
}
"""Operators with a dimension and numbers of entries along it."""
_FLAT = {_aten.take, _aten.put, _aten.put_}
_LOOKING_UP = {_aten.embedding, _aten.embedding_bag, _aten._embedding_bag, *_FLAT}
"""Operators with numbers of rows, or of entries wherever they lie."""

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


def reads_memory(function: Callable[..., Any], result: Any) -> bool:
    """Whether a call turns a tensor into something else, such as ``tolist`` or ``numpy``."""
    if isinstance(result, Tensor):
        return False
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
