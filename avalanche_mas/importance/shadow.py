"""Measures a shadow of the user's model: what is never touched needs no restoring.

A forward pass may fill a cache, count its calls, update statistics or replace its own attributes,
and ``model.eval()`` runs whatever a user wrote into ``train()``. Importance is therefore measured
on twins of the model, which share its parameters and nothing that a forward pass writes to. What
the user wrote runs on them as well, unless it writes to parameters.
"""

from __future__ import annotations

import argparse
import copy
import dis
import functools
import itertools
import operator
import random
import sys
import weakref
from abc import ABC
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import (
    BuiltinMethodType,
    CellType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    SimpleNamespace,
)
from typing import Any, Generic, NamedTuple, Protocol

import numpy
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from avalanche_mas.importance.guard import Guard
from avalanche_mas.importance.interrupts import DeferredInterrupts
from avalanche_mas.importance.parameters import unwrap


@contextmanager
def preserve_state(
    data: Any = None, *, model: nn.Module | None = None
) -> Iterator[DeferredInterrupts]:
    """Autograd is on inside; afterwards the global state is as before, also after an exception.

    Ctrl-C waits until the end, or wherever what is given says.

    Restored are the random number generators (torch on CPU and on every GPU, numpy, ``random``, and
    those of a ``DataLoader``), inference mode, grad mode and cuDNN's switch. Of a model nothing but
    gradient hooks is restored: run a twin from :meth:`Shadow.fresh`, and there is nothing else.

    :param data: the data that will be iterated, for the generators inside it.
    :param model: the model whose twins will be run. Gradient hooks on its parameters are not called
        inside: they change how it is trained, not what it computes. cuDNN is off inside if it has
        recurrent layers and there is a GPU, because cuDNN refuses their backward pass in eval mode.
    """
    with DeferredInterrupts() as interrupts, _preserved(data, model):
        yield interrupts


@contextmanager
def _preserved(data: Any, model: nn.Module | None) -> Iterator[None]:
    generators = [(generator, generator.get_state()) for generator in _generators(data)]
    rng = torch.get_rng_state(), numpy.random.get_state(), random.getstate()
    depths = torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
    cuda = torch.cuda.is_available()
    cuda_rng = torch.cuda.get_rng_state_all() if cuda else []
    recurrent = model is not None and any(isinstance(m, nn.RNNBase) for m in model.modules())
    hooks = [] if model is None else [p._backward_hooks for p in model.parameters()]
    kept = [(live, live.copy()) for live in hooks if live]
    try:
        for live, _ in kept:
            live.clear()
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            if cuda and recurrent:
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            try:
                yield
            finally:
                while torch._C._len_torch_function_stack() > depths[0]:  # left by an exception
                    torch._C._pop_torch_function_stack()
                while torch._C._len_torch_dispatch_stack() > depths[1]:
                    torch._C._pop_torch_dispatch_stack()
    finally:
        for live, before in kept:
            live.clear()  # of what a forward pass has registered
            live.update(before)
        for generator, state in generators:
            generator.set_state(state)
        torch.set_rng_state(rng[0])
        numpy.random.set_state(rng[1])
        random.setstate(rng[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda_rng)


def _generators(data: Any) -> list[torch.Generator]:
    holders = [data, getattr(data, "sampler", None)]
    batch_sampler = getattr(data, "batch_sampler", None)
    holders += [batch_sampler, getattr(batch_sampler, "sampler", None)]
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


class Shadow:
    """The model as it is measured: own modules, containers and buffers over its parameters.

    :param model: the model, wrapped or not. It is only ever read.
    :raises ValueError: if a submodule is TorchScript, whose state cannot be separated from it, or
        lazy and without parameters so far: its first forward pass would write them.
    """

    def __init__(self, model: nn.Module) -> None:
        for name, module in model.named_modules():
            where = f"submodule {name!r}" if name else "the model"
            if isinstance(module, torch.jit.ScriptModule):
                raise ValueError(
                    f"{where} is TorchScript ({type(module).__name__}), which cannot be measured: "
                    "use the nn.Module that it was made from"
                )
            if any(map(is_lazy, module._parameters.values())):
                raise ValueError(
                    f"{where} is a {type(module).__name__} whose parameters have no shape yet: run "
                    "the model on a batch first"
                )
        self._model = model
        self._kinds = _Kinds()
        self._clones: dict[int, _Clone] = {}
        self._rewritten: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
        # a module with max_norm rewrites its weight when it is used
        rewritten = [m for m in model.modules() if getattr(m, "max_norm", None) is not None]
        self.keep_own(p for module in rewritten for p in module.parameters(recurse=False))
        self.keep_own(p for p in model.parameters() if p.is_inference())  # autograd refuses it
        self._newest: Callable[[], nn.Module | None] = lambda: None
        self._reacting = [module for module in model.modules() if _reacts_to_eval(module)]
        self._runs_eval = True

    def keep_own(self, parameters: Iterable[nn.Parameter]) -> None:
        """From now on copies stand for these in the twins."""
        with torch.inference_mode(False):
            self._rewritten |= {
                id(p): (p, nn.Parameter(p.detach().clone(), p.requires_grad)) for p in parameters
            }

    def parameter(self, parameter: nn.Parameter) -> nn.Parameter:
        """What stands in the twins for one of the model's parameters: almost always itself."""
        return self._rewritten[id(parameter)][1] if id(parameter) in self._rewritten else parameter

    def fresh(self) -> nn.Module:
        """A twin of the model in eval mode, in the state that the model has now.

        Every submodule has a counterpart of the same class, made without running any code of the
        user's. Containers, plain objects, arrays, generators, buffers and other tensors that do not
        require a gradient are copied; methods, partial functions and closures that hold modules
        hold the twin's. What is shared in the model is shared in the twin. Wrappers
        (``DataParallel``, ``DistributedDataParallel``, ``torch.compile``) are left out.

        If a module in train mode is of a class with its own ``train()`` or ``eval()``, the twin's
        ``eval()`` runs, unless it fails or would write to parameters; else only flags are set.

        Parameters are the model's own objects, with one exception: for those that the model
        rewrites when it is used, as a module with ``max_norm`` does, :meth:`parameter` stands in
        all twins (everywhere, if it is tied), with the model's numbers again in every new twin.

        Clones of large tensors are used again by the next twin if this one is gone and their
        ``_version`` says that nothing was written to them. (Writes through ``.data`` do not count
        there, nor do those of ``F.batch_norm``, whose statistics are never that large.)
        """
        if self._runs_eval and any(module.training for module in self._reacting):
            twin = self._copy(in_eval_mode=False)
            self._runs_eval = self._in_eval_mode(twin)
            if self._runs_eval:
                return twin
            del twin  # so that its clones can be used again
        return self._copy()

    def _in_eval_mode(self, twin: nn.Module) -> bool:
        """Runs what the user wrote into ``train()`` or ``eval()``, such as to switch an attribute.

        :return: False if it failed, was about to write to a parameter, as where an adapter is added
            to a weight, or put another in its place: such a twin must be dropped.
        """
        parameters = set(twin.parameters())
        try:
            with DeferredInterrupts(), torch.inference_mode(False), Guard(parameters):
                twin.eval()
        except Exception:  # whatever it may be
            return False
        for module in twin.modules():
            vars(module)["training"] = False
        return set(twin.parameters()) == parameters

    def _copy(self, in_eval_mode: bool = True) -> nn.Module:
        """A twin whose flags say that it is in eval mode, or those that the model has."""
        reusable = self._clones if self._newest() is None else {}
        with torch.inference_mode(False):
            for original, own in self._rewritten.values():
                own.data.copy_(original)
                own.requires_grad_(original.requires_grad)
                own._backward_hooks = None  # which a pass before may have registered
            own_parameters = {key: own for key, (_, own) in self._rewritten.items()}
            copier = _Copier(self._model, self._kinds, own_parameters, reusable, in_eval_mode)
            twin: nn.Module = copier.copy(self._model)
        self._clones, self._newest = copier.clones, weakref.ref(twin)
        return twin


def converted(model: nn.Module, convert: Callable[[Tensor], Tensor]) -> nn.Module:
    """A twin with parameters and buffers of its own, for another device or another precision.

    None of the user's code makes it: a model may say itself how it is copied, and what copies of it
    share would be converted in the model, too.

    :param model: the model, which is only read.
    :param convert: a parameter or a buffer → a new tensor.
    """
    twin = Shadow(model).fresh()
    own: dict[int, Any] = {}
    with torch.inference_mode(False):
        for tensor in (*twin.parameters(), *twin.buffers()):
            new = convert(tensor.detach())
            is_parameter = isinstance(tensor, nn.Parameter)
            own[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if is_parameter else new
        copied: nn.Module = _Copier(twin, _Kinds(), own, {}, in_eval_mode=True).copy(twin)
    return copied


_LARGE_BYTES = 1 << 18  # copying less takes no longer than some calls of Python


class _Clone(NamedTuple):
    """A clone of a large tensor, and the versions that both had when it was made."""

    original: Tensor
    version: int
    clone: Tensor
    clone_version: int

    def is_current(self, original: Tensor) -> bool:
        return (
            self.original is original
            and self.version == original._version
            and self.clone_version == self.clone._version
            and not self.clone.requires_grad
        )


def _reacts_to_eval(module: nn.Module) -> bool:
    """Whether ``train()`` or ``eval()`` is more than what torch makes of it."""
    cls = type(module)
    return cls.train is not nn.Module.train or cls.eval is not nn.Module.eval


def _slots_of(cls: type) -> list[Any]:
    return [
        slot
        for base in cls.__mro__
        for slot in vars(base).values()
        if type(slot) is MemberDescriptorType
    ]


def _new(value: Any) -> Any:
    """An empty object of the same class, whose ``__init__`` has not run."""
    cls: Any = type(value)
    return cls.__new__(cls)


class _Copier:
    """Copies one model, every object once.

    :param model: the model.
    :param kinds: how objects of a class are copied.
    :param parameters: what stands for the parameters that forward passes rewrite, by their id.
    :param reusable: clones of large tensors that no living twin has, by the original's id.
    :param in_eval_mode: whether copies of modules are in eval mode, or as the modules are.
    """

    def __init__(
        self,
        model: nn.Module,
        kinds: _Kinds,
        parameters: dict[int, nn.Parameter],
        reusable: dict[int, _Clone],
        in_eval_mode: bool,
    ) -> None:
        self.model, self.kinds, self.in_eval_mode = model, kinds, in_eval_mode
        self.reusable = reusable
        self.clones: dict[int, _Clone] = {}
        self._storages: dict[tuple[int, torch.dtype], Tensor] = {}
        self._copies: dict[int, Any] = dict(parameters)

    def copy(self, value: Any) -> Any:
        """The counterpart of ``value``: a copy, or itself where it may be shared."""
        kind = self.kinds[type(value)]
        if kind is None:
            return value
        known = self._copies.get(id(value))
        return kind(self, value) if known is None else known

    def _copy_values(self, twin: dict[Any, Any]) -> None:
        """Replaces the values of a shallow copy by their counterparts.

        The same as :meth:`copy`, without a call for what most values of a module are: constants and
        empty dicts of hooks.
        """
        kinds, copies = self.kinds, self._copies
        for key, value in twin.items():
            kind = kinds[type(value)]
            if kind is None:
                continue
            copied = copies.get(id(value))
            if copied is None:
                if kind is _copy_dict and not value:
                    copied = copies[id(value)] = value.copy()
                else:
                    copied = kind(self, value)
            twin[key] = copied

    def _copy_attributes(self, value: Any, twin: Any) -> None:
        if vars(value) is value:  # a dict whose items are its attributes
            object.__setattr__(twin, "__dict__", twin)
            return
        attributes = vars(twin)
        attributes.update(vars(value))
        self._copy_values(attributes)

    def copy_object(self, value: Any) -> Any:
        self._copies[id(value)] = twin = _new(value)
        if hasattr(value, "__dict__"):
            self._copy_attributes(value, twin)
        for slot in _slots_of(type(value)):
            with suppress(AttributeError):  # it may be empty
                slot.__set__(twin, self.copy(slot.__get__(value)))
        return twin

    def copy_cached(self, function: Any) -> Any:
        """A function with ``lru_cache``, whose cache is empty."""
        twin = functools.lru_cache(**function.cache_parameters())(self.copy(function.__wrapped__))
        return self._copies.setdefault(id(function), twin)

    def copy_module(self, module: nn.Module) -> Any:
        inner = unwrap(module)
        if inner is not module:
            self._copies[id(module)] = twin = self.copy(inner)
            return twin
        self._copies[id(module)] = twin = object.__new__(type(module))
        state = vars(twin)
        state.update(vars(module))
        for name in self.kinds.containers_of(type(module)):
            state.setdefault(name, getattr(module, name))  # of the class
        self._copy_values(state)
        if self.in_eval_mode:
            state["training"] = False
        if "_compiled_call_impl" in state:  # of Module.compile()
            state["_compiled_call_impl"] = None
        if state.get("sparse") and isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            state["sparse"] = False  # sums of |g| are dense
        return twin

    def copy_parameter(self, parameter: nn.Parameter) -> nn.Parameter:
        return parameter

    def copy_tensor(self, tensor: Tensor) -> Tensor:
        if tensor.requires_grad or getattr(tensor, "_is_param", False):
            return tensor
        entry = self.reusable.get(id(tensor))
        if entry is not None and entry.is_current(tensor):
            self.clones[id(tensor)] = entry
            self._copies[id(tensor)] = entry.clone
            return entry.clone
        self._copies[id(tensor)] = clone = self._clone(tensor)
        large = clone.layout is torch.strided and clone.untyped_storage().nbytes() >= _LARGE_BYTES
        if large and not tensor.is_inference():  # tensors of inference mode have no version
            self.clones[id(tensor)] = _Clone(tensor, tensor._version, clone, clone._version)
        return clone

    def _clone(self, tensor: Tensor) -> Tensor:
        """A clone with the same strides; clones of views of one storage share one storage."""
        if type(tensor) is not Tensor or tensor.layout is not torch.strided or tensor.is_quantized:
            return tensor.clone()
        storage = tensor.untyped_storage()
        key = storage.data_ptr(), tensor.dtype
        if not key[0]:  # empty, or on the meta device
            return tensor.clone()
        if key not in self._storages:
            if tensor.nbytes == storage.nbytes() and tensor.is_contiguous():
                self._storages[key] = clone = tensor.clone()
                return clone
            whole = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
            self._storages[key] = whole.set_(storage).clone()
        clone = self._storages[key]
        return clone.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def copy_dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        self._copies[id(value)] = twin = value.copy()
        for key in twin:
            if self.kinds[type(key)] is not None:
                twin.clear()
                twin.update((self.copy(key), self.copy(item)) for key, item in value.items())
                return twin
        self._copy_values(twin)
        return twin

    def copy_dict_subclass(self, value: Any) -> Any:
        base: Any = OrderedDict if isinstance(value, OrderedDict) else dict
        self._copies[id(value)] = twin = _new(value)
        if isinstance(value, defaultdict):
            twin.default_factory = self.copy(value.default_factory)
        for key, item in base.items(value):
            base.__setitem__(twin, self.copy(key), self.copy(item))
        if hasattr(value, "__dict__"):
            self._copy_attributes(value, twin)
        return twin

    def copy_list(self, value: list[Any]) -> Any:
        self._copies[id(value)] = twin = _new(value)
        list.extend(twin, map(self.copy, list.__iter__(value)))
        if type(value) is not list and hasattr(value, "__dict__"):
            self._copy_attributes(value, twin)
        return twin

    def copy_set(self, value: set[Any]) -> set[Any]:
        self._copies[id(value)] = twin = set(map(self.copy, value))
        return twin

    def copy_deque(self, value: deque[Any]) -> deque[Any]:
        self._copies[id(value)] = twin = deque[Any](maxlen=value.maxlen)
        twin.extend(map(self.copy, value))
        return twin

    def copy_tuple(self, value: tuple[Any, ...]) -> Any:
        items = list(map(self.copy, value))
        if all(map(operator.is_, items, value)):
            return value
        # a list in the tuple that holds the tuple has copied it by now
        return self._copies.setdefault(id(value), tuple.__new__(type(value), items))

    def copy_frozenset(self, value: frozenset[Any]) -> Any:
        return self._copies.setdefault(id(value), frozenset(map(self.copy, value)))

    def copy_method(self, method: MethodType) -> Any:
        owner, function = self.copy(method.__self__), self.copy(method.__func__)
        if owner is method.__self__ and function is method.__func__:
            return method
        return self._copies.setdefault(id(method), MethodType(function, owner))

    def copy_builtin(self, method: BuiltinMethodType) -> Any:
        owner = self.copy(method.__self__)
        return method if owner is method.__self__ else getattr(owner, method.__name__)

    def copy_partial(self, value: functools.partial[Any]) -> functools.partial[Any]:
        if not _holds_state(value, set()):
            return value
        function, args = self.copy(value.func), self.copy(value.args)
        twin = type(value)(function, *args, **self.copy(value.keywords))
        self._copies[id(value)] = twin
        self._copy_attributes(value, twin)
        return twin

    def copy_function(self, function: FunctionType) -> FunctionType:
        """The same code over the twin's own state, where its closure or its defaults hold any."""
        if not _holds_state(function, set()):
            return function
        cells = function.__closure__ or ()
        for cell in cells:
            self._copies.setdefault(id(cell), CellType())
        closure = tuple(self._copies[id(cell)] for cell in cells)
        code, scope = function.__code__, function.__globals__
        twin = FunctionType(code, scope, function.__name__, closure=closure)
        self._copies[id(function)] = twin
        for cell, own in zip(cells, closure, strict=True):
            with suppress(ValueError):  # a cell may be empty
                own.cell_contents = self.copy(cell.cell_contents)
        twin.__defaults__ = self.copy(function.__defaults__)
        twin.__kwdefaults__ = self.copy(function.__kwdefaults__)
        twin.__qualname__, twin.__doc__ = function.__qualname__, function.__doc__
        self._copy_attributes(function, twin)
        return twin

    def copy_reference(self, reference: weakref.ref[Any]) -> weakref.ref[Any]:
        target = reference()
        ours = isinstance(target, nn.Module) and any(target is m for m in self.model.modules())
        return weakref.ref(self.copy(target)) if ours else reference

    def copy_generator(self, generator: torch.Generator) -> torch.Generator:
        self._copies[id(generator)] = twin = torch.Generator(generator.device)
        twin.set_state(generator.get_state())
        return twin

    def copy_array(self, value: Any) -> Any:
        return self._copies.setdefault(id(value), value.copy())

    def deepcopy(self, value: Any) -> Any:
        return self._copies.setdefault(id(value), copy.deepcopy(value))


def _holds_state(value: Any, seen: set[int]) -> bool:
    """Whether a module, a container or a variable of a closure can be reached and written to."""
    if isinstance(value, (nn.Module, dict, list, set, deque, bytearray)):
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    parts: Iterable[Any] = ()
    if isinstance(value, FunctionType):
        if value.__closure__ and _STORE_DEREF in value.__code__.co_code[::2]:
            return True
        defaults = *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()
        parts = (*(value.__closure__ or ()), *defaults, *vars(value).values())
    elif isinstance(value, CellType):
        with suppress(ValueError):
            parts = (value.cell_contents,)
    elif isinstance(value, MethodType):
        parts = (value.__self__, value.__func__)
    elif isinstance(value, functools.partial):
        parts = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, (tuple, frozenset)):
        parts = value
    return any(_holds_state(part, seen) for part in parts)


_STORE_DEREF = dis.opmap["STORE_DEREF"]  # assigns to a variable that is nonlocal

_Kind = Callable[[_Copier, Any], Any]
_copy_dict = _Copier.copy_dict

_EXACT: dict[type, _Kind] = {
    Tensor: _Copier.copy_tensor,
    nn.Parameter: _Copier.copy_parameter,
    dict: _Copier.copy_dict,
    OrderedDict: _Copier.copy_dict,
    defaultdict: _Copier.copy_dict_subclass,
    list: _Copier.copy_list,
    set: _Copier.copy_set,
    deque: _Copier.copy_deque,
    tuple: _Copier.copy_tuple,
    frozenset: _Copier.copy_frozenset,
    MethodType: _Copier.copy_method,
    BuiltinMethodType: _Copier.copy_builtin,
    FunctionType: _Copier.copy_function,
    functools.partial: _Copier.copy_partial,
    weakref.ref: _Copier.copy_reference,
    functools._lru_cache_wrapper: _Copier.copy_cached,
    torch.Generator: _Copier.copy_generator,
    bytearray: _Copier.copy_array,
    itertools.count: _Copier.deepcopy,
    random.Random: _Copier.deepcopy,
    numpy.random.Generator: _Copier.deepcopy,
    numpy.random.RandomState: _Copier.deepcopy,
}
_PLAIN = {
    *(object, ABC, Generic, Protocol, dict, list, OrderedDict, defaultdict, Counter),
    *(SimpleNamespace, argparse.Namespace, *UserDict.__mro__, *UserList.__mro__),
}
_SHARED_PACKAGES = {*sys.stdlib_module_names, "torch", "numpy"}
_CUSTOM = {"__new__", "__del__", "__copy__", "__deepcopy__"}


class _Kinds(dict[type, "_Kind | None"]):
    """How objects of a class are copied; None where they are shared."""

    def __init__(self) -> None:
        super().__init__()
        self._containers: dict[type, list[str]] = {}

    def containers_of(self, cls: type) -> list[str]:
        """Attributes of a user's class of modules that its objects may fill, such as a cache."""
        if cls not in self._containers:
            self._containers[cls] = [
                name
                for base in cls.__mro__
                if base.__module__.partition(".")[0] not in _SHARED_PACKAGES
                for name, value in vars(base).items()
                if isinstance(value, (dict, list, set, deque)) and not name.startswith("__")
            ]
        return self._containers[cls]

    def __missing__(self, cls: type) -> _Kind | None:
        self[cls] = kind = _kind_of(cls)
        return kind


def _kind_of(cls: type) -> _Kind | None:
    if cls in _EXACT:
        return _EXACT[cls]
    if issubclass(cls, torch.jit.ScriptModule):
        return None
    if issubclass(cls, nn.Module):
        return _Copier.copy_module
    if issubclass(cls, nn.Parameter):
        return _Copier.copy_parameter
    if issubclass(cls, Tensor):
        return _Copier.copy_tensor
    if issubclass(cls, numpy.ndarray):
        return _Copier.copy_array
    if issubclass(cls, tuple):
        return _Copier.copy_tuple if hasattr(cls, "_fields") else None
    if not _is_plain(cls):
        return None
    if issubclass(cls, dict):
        return _Copier.copy_dict_subclass
    return _Copier.copy_list if issubclass(cls, list) else _Copier.copy_object


def _is_plain(cls: type) -> bool:
    """Whether an object of a class is no more than its attributes and items.

    Shared is what the standard library, torch and numpy define (locks, files, loggers, datasets,
    optimizers, enumerations, classes), and what has its own way to be made, copied or deleted.
    """
    bases = [base for base in cls.__mro__ if base not in _PLAIN]
    return bool(cls.__dictoffset__ or _slots_of(cls)) and not any(
        base.__module__.partition(".")[0] in _SHARED_PACKAGES or _CUSTOM & vars(base).keys()
        for base in bases
    )
