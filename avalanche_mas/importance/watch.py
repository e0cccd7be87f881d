"""Ω from a deployed model's own inference (Fig. 1 of Aljundi et al., ECCV 2018)."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch._C._functorch import maybe_current_level
from torch.nn.parallel import DataParallel, DistributedDataParallel

from avalanche_mas.importance.batches import batch_size_of, take
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.finite import NotFiniteError
from avalanche_mas.importance.engines.inference_pass import Live, LocalMean
from avalanche_mas.importance.engines.objectives import Output
from avalanche_mas.importance.estimate import RunningMean
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.interrupts import DeferredInterrupts
from avalanche_mas.importance.parameters import checksum, named_parameters, unwrap

FRACTION = 0.1
"""Of the samples, which is measured unless another one is asked for.

What l-MAS multiplies for a linear layer is as much as the layer itself does for a sample, so that a
watched model takes at least (1 + fraction) times as long."""


class Mean(Protocol):
    """A mean of importance that samples can be added to, such as :class:`.RunningMean`."""

    samples: int

    def add_whole(self, batch: Any) -> None:
        """Measures a batch and adds all of it, or after an error nothing; it leaves no trace."""

    @property
    def importance(self) -> Importance:
        """Ω of everything that was added."""


class CallArguments(NamedTuple):
    """What a model was called with: ``model(*args, **kwargs)``."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def call_again(model: nn.Module, batch: CallArguments) -> Any:
    """The :data:`.Forward` of such a batch."""
    return model(*batch.args, **batch.kwargs)


_Parts = Callable[[CallArguments], Iterable[CallArguments]]
_watching: weakref.WeakSet[Watch] = weakref.WeakSet()


class Watch:
    """Measures a part of the samples that go through a model while the context is open.

    A sample is what has its own entry along the first dimension of the first tensor that the model
    is called with. Of all samples, in the order in which they come, every tenth is measured, or
    whatever ``fraction`` says, beginning with the first; no random number is drawn. The model's
    parameters, modes, gradients and random states are not touched, nor is its output. Several
    threads may call the model: what they add is added by one after the other. A copy of the model,
    or a file that it is saved to, knows nothing of being watched.

    A call that fails adds nothing, and neither does one whose importance is not finite, of which a
    warning tells. Calls inside ``torch.func`` transforms and ``torch.jit.trace`` are not measured.

    :param model: called by the user as ever, in eval mode. It may be wrapped, and is then to be
        called by the wrapper or from inside. What ``DistributedDataParallel`` computes in other
        processes is not seen.
    :param mean: where samples are added.
    :param fraction: the part of the samples that is measured.
    :param parts: a call's arguments → those of several calls that come to the same, for which the
        model can be measured faster.
    :raises ValueError: if ``fraction`` is not in (0, 1].
    """

    def __init__(
        self,
        model: nn.Module,
        mean: Mean,
        fraction: float = FRACTION,
        parts: _Parts = lambda batch: (batch,),
    ) -> None:
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction!r}")
        self.fraction = fraction
        self.seen = 0
        """Samples that went through the model."""
        self._taken = 0  # of these, those to measure
        self._mean, self._parts = mean, parts
        self._called, self._model = _called(model), unwrap(model)
        inside = (module for module in self._called.modules() if "_orig_mod" in module._modules)
        self._own = self._called is self._model and next(inside, None) is None
        self._lock = threading.RLock()
        self._thread = threading.local()
        self._at: dict[str, _Before] = {}  # parameters at entry
        self._some: list[Tensor] = []  # an entry of each, as views
        self._some_before = torch.empty(0)

    @property
    def samples(self) -> int:
        """Samples that have been measured."""
        return self._mean.samples

    @property
    def importance(self) -> Importance:
        """Ω of the samples that have been measured so far; also inside the context.

        :raises ValueError: if there are none, or if it is not finite.
        """
        with self._lock:
            return self._mean.importance

    def __enter__(self) -> Watch:
        own = set(self._model.parameters())
        if any(not own.isdisjoint(watch._model.parameters()) for watch in _watching):
            raise ValueError(
                "the model, or a part of it, is being watched already: leave that context first. "
                "For a second importance of the same samples use observe or an estimate."
            )
        if self.seen:  # entered again
            self._check_unmoved(bits=True)
        self._look_at_parameters()
        interception = _Interception(self, self._called._compiled_call_impl)
        try:
            with DeferredInterrupts():
                _watching.add(self)
                vars(self._called)["_compiled_call_impl"] = interception
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with DeferredInterrupts():
                is_seen = self._leave()
        except BaseException:
            self._leave()
            raise
        if kind is not None:
            return
        self._check_unmoved(bits=True)
        if not is_seen:
            warnings.warn(
                "model.compile() was called while the model was being watched, and later calls "
                "were not seen: compile the model before",
                stacklevel=2,
            )
        if not self.seen:
            warnings.warn(
                "the watched model was never called: call the object that was given to watch, or "
                "the module inside it, and not its forward()",
                stacklevel=2,
            )

    def _leave(self) -> bool:
        """From now on nothing is seen any more; returns whether calls were seen until now."""
        _watching.discard(self)
        held = self._called._compiled_call_impl
        if not isinstance(held, _Interception) or held.watch is not self:
            return False
        vars(self._called)["_compiled_call_impl"] = held.inner
        return True

    def call(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The model's call, and the measurement of its samples."""
        if getattr(self._thread, "inside", False) or _is_transformed():  # the model calls itself
            return inner(*args, **kwargs)
        with DeferredInterrupts() as interrupts:
            self._thread.inside = True
            try:
                call = self._begin(CallArguments(args, kwargs))
                try:
                    with call.live or interrupts.allowed():
                        output = inner(*args, **kwargs)
                except BaseException:
                    with self._lock:
                        self.seen, self._taken = self.seen - call.size, self._taken - call.chosen
                    raise
                self._end(call)
                return output
            finally:
                self._thread.inside = False

    def _begin(self, batch: CallArguments) -> _Call:
        if training := [name for name, part in self._model.named_modules() if part.training]:
            raise ValueError(
                f"the watched model is in train mode ({training[0] or 'all of it'}), but importance"
                " is that of a network as it is used: call model.eval() first"
            )
        size = batch_size_of(batch)
        with self._lock:
            chosen = self._chosen(size)
            if chosen:
                self._check_unmoved()
            call = self._followed(batch, size, chosen) if chosen else _Call(size, 0, batch)
            self.seen, self._taken = self.seen + size, self._taken + len(chosen)
            return call

    def _followed(self, batch: CallArguments, size: int, chosen: list[int]) -> _Call:
        """A call some of whose samples are measured."""
        rows = torch.tensor(chosen)
        with torch.inference_mode(False), torch.no_grad():
            kept = take(batch, rows, size)  # copies: the model may write to what it is given
        parts = tuple(self._parts(batch)) if self._own else ()
        local = self._mean if isinstance(self._mean, LocalMean) else None
        live = local.follow(parts[0], size, rows) if local and len(parts) == 1 else None
        return _Call(size, len(chosen), parts[0] if live else batch, kept, live)

    def _end(self, call: _Call) -> None:
        if call.kept is None:
            return
        with self._lock:
            try:
                local = self._mean if isinstance(self._mean, LocalMean) else None
                if call.live and local and local.add_live(call.live, call.batch):
                    return
                for part in self._parts(call.kept):
                    self._mean.add_whole(part)
            except NotFiniteError as error:
                warnings.warn(f"{error} The samples of this call are left out.", stacklevel=4)

    def _look_at_parameters(self) -> None:
        parameters = named_parameters(self._model)
        self._at = {name: _Before.of(parameter) for name, parameter in parameters.items()}
        first = next(iter(parameters.values()), None)
        self._some = [
            _some_of(parameter)
            for parameter in parameters.values()
            if first is not None and parameter.device == first.device
        ]
        self._some_before = torch.cat(self._some) if self._some else torch.empty(0)

    def _check_unmoved(self, *, bits: bool = False) -> None:
        """Compares what shows at once, and an entry of each; with ``bits``, everything.

        :raises ValueError: if a parameter is not what it was when the context was opened.
        """
        parameters = named_parameters(self._model)
        bits = bits or not torch.equal(torch.cat(self._some), self._some_before)
        for name in {**self._at, **parameters}:
            parameter, before = parameters.get(name), self._at.get(name)
            if parameter is None or before is None or not before.is_now(parameter, bits):
                raise ValueError(
                    f"the parameter {name!r} has changed while the model was being watched, it is "
                    "not what it was at first: importance at different parameters has no common "
                    "mean. Leave the context before the model is trained, loaded, frozen or "
                    "rebuilt."
                )

    def _chosen(self, size: int) -> list[int]:
        """The j-th sample to measure is number ⌊j / fraction⌋ of all, both counted from 0."""
        rows: list[int] = []
        while (k := int((self._taken + len(rows)) / self.fraction)) < self.seen + size:
            rows.append(max(0, k - self.seen))
        return rows


class _Before(NamedTuple):
    """A parameter, and what it was."""

    parameter: nn.Parameter
    version: int
    place: int
    requires_grad: bool
    checksum: int

    @classmethod
    def of(cls, parameter: nn.Parameter) -> _Before:
        return cls(parameter, *_visible(parameter), checksum(parameter))

    def is_now(self, parameter: nn.Parameter, bits: bool) -> bool:
        """Whether it is the same parameter with the same numbers."""
        if self.parameter is not parameter or self.requires_grad != parameter.requires_grad:
            return False
        same = (self.version, self.place, self.requires_grad) == _visible(parameter)
        return (same and not bits) or self.checksum == checksum(parameter)


def _visible(parameter: nn.Parameter) -> tuple[int, int, bool]:
    """What shows most changes; a tensor made in inference mode has no version."""
    version = 0 if parameter.is_inference() else parameter._version
    return version, parameter.data_ptr(), parameter.requires_grad


def _some_of(parameter: nn.Parameter) -> Tensor:
    """A view of one entry, which shows writes through ``.data`` that no version counts."""
    return parameter.detach()[(slice(1),) * parameter.dim()].reshape(-1)


def _is_transformed() -> bool:
    """Whether tensors stand for others, as inside ``torch.func`` and ``torch.jit.trace``."""
    return torch._C._get_tracing_state() is not None or maybe_current_level() is not None


class _Call(NamedTuple):
    """A call of the watched model that is under way."""

    size: int
    chosen: int  # so many of them are measured
    batch: CallArguments
    kept: CallArguments | None = None  # copies of the samples to measure
    live: Live | None = None


class _Interception:
    """Stands where ``Module.compile`` leaves what ``model(...)`` runs; copies and files lack it."""

    def __init__(self, watch: Watch, inner: Callable[..., Any] | None) -> None:
        self.watch, self.inner = watch, inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.watch.call(self.inner or self.watch._called._call_impl, args, kwargs)

    def __deepcopy__(self, memo: Any) -> None:
        return None

    def __reduce__(self) -> Any:
        return type(None), ()


def _called(model: nn.Module) -> nn.Module:
    """The module whose calls are seen, whether or not the wrapper is called.

    ``DataParallel`` calls copies of what is inside it, and ``torch.compile`` no module at all.
    """
    while isinstance(model, DistributedDataParallel) or (
        isinstance(model, DataParallel) and not model.device_ids
    ):
        model = model.module
    return model


def watch_importance(
    model: nn.Module, *, output: Output = "norm", fraction: float = FRACTION
) -> Watch:
    """Global MAS (Eq. 2) of what a deployed model is used for. ::

        with watch_importance(model) as watched:
            ...  # inference as ever
        importance = watched.importance

    A part of the samples goes through the model a second time, forward and backward, right after
    the user's own call. Ω is :func:`~avalanche_mas.estimate_importance` of exactly these samples.

    :param model: any module, in eval mode, see :class:`Watch`.
    :param output: ``"norm"``, ``"vector"`` or ``"squares"``, as for ``estimate_importance``.
    :param fraction: the part of the samples that is measured.
    :return: a context manager, see :class:`Watch`.
    :raises ValueError: for an option out of range, or a model without trainable parameters.
    """
    mean = RunningMean(unwrap(model), partial(Exact, output=output), call_again)
    return Watch(model, mean, fraction)


def watch_local_importance(model: nn.Module, *, fraction: float = FRACTION) -> Watch:
    """l-MAS (Eq. 5-7) of what a deployed model is used for, from its own forward passes.

    Nothing is computed a second time, also under :func:`torch.inference_mode`, where the model's
    operations can be foreseen from one call to the next. Where they cannot (attention in its fast
    path, or a model that looks at its data), the measured samples go through the model once more.
    Ω is :func:`~avalanche_mas.estimate_local_importance` of exactly these samples.

    :param model: any module, in eval mode, see :class:`Watch`.
    :param fraction: the part of the samples that is measured.
    :return: a context manager, see :class:`Watch`.
    :raises ValueError: for an option out of range, or a model without trainable parameters.
    """
    return Watch(model, LocalMean(unwrap(model), call_again), fraction)
