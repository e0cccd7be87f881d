"""Ends what is about to write to a model's parameters, before it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_UNDECLARED = {"running_mean", "running_var"}  # native_batch_norm does not say that it writes them


class WriteError(RuntimeError):
    """What runs inside a :class:`Guard` was about to write to a parameter."""


class Guard:
    """A context in which nothing is written to parameters, their gradients or their flags.

    What would is ended by a :class:`WriteError`. Not seen are writes to memory that others share,
    as through a view of numpy's.

    :param parameters: what is guarded.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = set(parameters)
        held = [(p, tensor) for p in self._parameters for tensor in (p, p.grad)]
        self._places = {_place(tensor): p for p, tensor in held if tensor is not None}
        self._places.pop(0, None)
        self._stack = ExitStack()
        self.written: set[nn.Parameter] = set()
        """The parameters that something was about to write to."""

    def __enter__(self) -> Guard:
        self._stack.enter_context(_Functions(self))
        self._stack.enter_context(_Operators(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def check(self, targets: Any) -> None:
        """:raises WriteError: if a tensor in ``targets`` lies where a parameter does."""
        places = [_place(leaf) for leaf in tree_leaves(targets) if isinstance(leaf, Tensor)]
        self.refuse({self._places[place] for place in places if place in self._places})

    def refuse(self, parameters: set[nn.Parameter] | None = None) -> None:
        """:raises WriteError: unless there are no parameters that would be written to."""
        written = self._parameters if parameters is None else parameters
        if written:
            self.written |= written
            raise WriteError("the model writes to its parameters")


class _Functions(TorchFunctionMode):
    """Sees what is no operator: ``p.data = ...``, ``requires_grad_()``, hooks, ``backward()``."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name == "backward":
            self._guard.refuse()
        elif name in ("__set__", "register_hook") or (name.endswith("_") and name[-2:] != "__"):
            self._guard.check(args[:1])
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the operators that are really run, with what their schemas say that they write to."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._guard = guard

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        self._guard.check(
            [
                given.get(a.name)
                for a in func._schema.arguments
                if (a.alias_info is not None and a.alias_info.is_write)
                or (a.name in _UNDECLARED and given.get("training"))
            ]
        )
        return func(*args, **kwargs)


def _place(tensor: Tensor) -> int:
    """Where a tensor's memory begins; 0 if it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, or inside the model's own torch.func
        return 0


class State(NamedTuple):
    """What shows most writes to a parameter; those through ``.data`` and NumPy it does not."""

    version: int
    place: int
    requires_grad: bool

    @classmethod
    def of(cls, parameter: nn.Parameter) -> State:
        """What it is now."""
        version = 0 if parameter.is_inference() else parameter._version  # which then has none
        return cls(version, parameter.data_ptr(), parameter.requires_grad)


@contextmanager
def unwritten(parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    """A context in which parameters must stay as they are; writes are found when it ends.

    :param parameters: by name.
    :raises ValueError: if one was written to.
    """
    before = [State.of(parameter) for parameter in parameters.values()]
    try:
        yield
    finally:
        for (name, parameter), state in zip(parameters.items(), before, strict=True):
            if State.of(parameter) != state:
                raise ValueError(
                    f"the model wrote to its own parameter {name!r} in eval mode, but did not do "
                    "so for the first samples: the parameter has been changed, and there is no "
                    "importance at parameters that change. Make it a buffer, or write to it only "
                    "if self.training."
                )
