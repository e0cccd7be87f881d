"""Ω from a deployed model's own inference (Fig. 1 of Aljundi et al., ECCV 2018)."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C._functorch import maybe_current_level
from torch.nn.parallel import DataParallel, DistributedDataParallel

from avalanche_mas.importance.batches import (
    OneSample,
    Shared,
    batch_size_of,
    entries_of,
    is_per_sample,
    leaves_of,
    map_leaves,
    take,
)
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.local import Local
from avalanche_mas.importance.engines.objectives import Output
from avalanche_mas.importance.estimate import RunningMean
from avalanche_mas.importance.gathering import Gathering, Mean
from avalanche_mas.importance.guard import State
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.interrupts import DeferredInterrupts
from avalanche_mas.importance.parameters import checksum, named_parameters, unwrap

FRACTION = 0.1
"""Of the samples, which is measured unless another one is asked for.

A sample that is measured goes through the model once more. For l-MAS a linear layer then multiplies
as much again, so that a watched model takes at least (1 + 2 fraction) times as long, if calls have
as many samples as a group; where they have fewer, their own passes take longer for a sample."""


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
    whatever ``fraction`` says, beginning with the first; no random number is drawn. They are copied
    and wait until :data:`.gathering.GROUP` of them can be measured at once, at the end of a call of
    the user's; the rest when the context closes, also after an error, or when Ω is asked for. Of
    these copies no more than :data:`.gathering.MAX_BYTES` wait.

    The model's parameters, modes, gradients and random states are not touched, nor is its output.
    If anything but its parameters changes, what waits is measured as of before; what a forward pass
    reads from outside the model, such as a global task number, is read again when it is measured,
    and should be an argument. Several threads may
    call the model: what they add is added by one after the other. A copy of the model, or a file
    that it is saved to, knows nothing of being watched.

    A call that fails adds nothing, and neither does one whose importance is not finite, of which a
    warning tells. Samples that wait are lost, with an error that says so, if they cannot be
    measured when the context closes: because parameters have changed, or memory is short. Calls
    inside ``torch.func`` transforms and ``torch.jit.trace`` are not measured.

    :param model: called by the user as ever, in eval mode. It may be wrapped, and is then to be
        called by the wrapper or from inside. What ``DistributedDataParallel`` computes in other
        processes is not seen.
    :param make_mean: a model → where its samples are added. It gets a shadow of the model.
    :param fraction: the part of the samples that is measured.
    :param parts: a call's arguments → those of several calls that come to the same, for which the
        model can be measured faster.
    :raises ValueError: if ``fraction`` is not in (0, 1].
    """

    def __init__(
        self,
        model: nn.Module,
        make_mean: Callable[[nn.Module], Mean],
        fraction: float = FRACTION,
        parts: _Parts = lambda batch: (batch,),
    ) -> None:
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction!r}")
        self.fraction = fraction
        self.seen = 0
        """Samples that went through the model."""
        self._taken = 0  # of these, those to measure
        self._parts = parts
        self._called, self._model = _called(model), unwrap(model)
        self._gathering = Gathering(self._model, make_mean)
        self._lock = threading.RLock()
        self._thread = threading.local()
        self._at: dict[str, _Before] = {}  # parameters at entry
        self._some: list[Tensor] = []  # an entry of each, as views
        self._some_before = torch.empty(0)

    @property
    def samples(self) -> int:
        """Samples that have been measured, or wait for it."""
        with self._lock:
            return self._gathering.mean.samples + self._gathering.waiting

    @property
    def importance(self) -> Importance:
        """Ω of the samples so far; also inside the context, where it measures those that wait.

        :raises ValueError: if there are none, if it is not finite, or if parameters have changed.
        """
        with self._lock, DeferredInterrupts():
            if self._gathering.waiting:
                self._check_unmoved()
                self._gathering.measure()
            return self._gathering.mean.importance

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
        self._measure_rest(raising=kind is None)
        if kind is not None:
            return
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

    def _measure_rest(self, *, raising: bool) -> None:
        """Measures what waits, or gives it up, with a warning and perhaps with the error itself."""
        gathering = self._gathering
        try:
            if raising or gathering.waiting:
                self._check_unmoved(bits=True, grown=not raising)
            with self._lock, DeferredInterrupts():
                gathering.measure()
        except Exception as error:
            if lost := gathering.drop():
                warnings.warn(
                    f"{lost} samples of the watched model's last calls waited to be measured, and "
                    f"are left out: {error}",
                    stacklevel=3,
                )
            if raising:
                raise

    def _leave(self) -> bool:
        """From now on nothing is seen any more; returns whether calls were seen until now."""
        _watching.discard(self)
        held = self._called._compiled_call_impl
        if not isinstance(held, _Interception) or held.watch is not self:
            return False
        if held.inner is None:  # the class has it, too
            del vars(self._called)["_compiled_call_impl"]
        else:
            vars(self._called)["_compiled_call_impl"] = held.inner
        return True

    def call(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The model's call, and the measurement of its samples."""
        if getattr(self._thread, "inside", False) or _is_transformed():  # the model calls itself
            return inner(*args, **kwargs)
        batch, done = CallArguments(args, kwargs), False
        size = batch_size_of(batch)
        with self._lock:
            rows = self._chosen(size)
            self.seen, self._taken = self.seen + size, self._taken + len(rows)
        try:
            self._thread.inside = True
            if not rows and not self._called.training:
                output = inner(*args, **kwargs)
            else:
                with DeferredInterrupts() as interrupts:
                    kept = self._copies(batch, size, rows)
                    with interrupts.allowed():
                        output = inner(*args, **kwargs)
                    with self._lock:
                        for part in kept:
                            self._gathering.add(part)
                    done = True
            done = True
            return output
        finally:
            self._thread.inside = False
            if not done:
                with self._lock:
                    self.seen, self._taken = self.seen - size, self._taken - len(rows)

    def _copies(self, batch: CallArguments, size: int, rows: list[int]) -> list[Any]:
        """The samples to measure: the model may write to what it is given."""
        with self._lock:
            if not self._gathering.holds():
                self._check_in_eval_mode()
                self._check_unmoved()
                self._gathering.hold()
            elif not self._some_are_equal():
                self._check_unmoved(bits=True)
            if sum(entries_of(leaf) is not None for leaf in leaves_of(batch)) > 1:
                batch = self._gathering.mean.mark(batch)
        with torch.inference_mode(False), torch.no_grad():
            if len(rows) == 1:  # a slice is faster than an index, but a view
                one = take(batch, slice(rows[0], rows[0] + 1), size)
                some = map_leaves(_copied, one)
            else:
                some = take(batch, torch.tensor(rows), size)
                some = map_leaves(
                    lambda leaf: leaf if is_per_sample(leaf, len(rows)) else _copied(leaf), some
                )
            parts: Iterable[CallArguments | OneSample] = self._parts(some)
            if size == 1 and not _can_be_joined(batch):
                parts = map(OneSample, parts)
            return list(parts)

    def _check_in_eval_mode(self) -> None:
        if training := [name for name, part in self._model.named_modules() if part.training]:
            raise ValueError(
                f"the watched model is in train mode ({training[0] or 'all of it'}), but importance"
                " is that of a network as it is used: call model.eval() first"
            )

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

    def _check_unmoved(self, *, bits: bool = False, grown: bool = False) -> None:
        """Compares what shows at once, and an entry of each; with ``bits``, everything.

        :param grown: the model may have new parameters, which what waits has not met.
        :raises ValueError: if a parameter is not what it was when the context was opened.
        """
        parameters = named_parameters(self._model)
        bits = bits or not self._some_are_equal()
        for name in self._at if grown else {**self._at, **parameters}:
            parameter, before = parameters.get(name), self._at.get(name)
            if parameter is None or before is None or not before.is_now(parameter, bits):
                raise ValueError(
                    f"the parameter {name!r} has changed while the model was being watched, it is "
                    "not what it was at first: importance at different parameters has no common "
                    "mean. Leave the context before the model is trained, loaded, frozen or "
                    "rebuilt."
                )

    def _some_are_equal(self) -> bool:
        return torch.equal(torch.cat(self._some), self._some_before)

    def _chosen(self, size: int) -> list[int]:
        """The j-th sample to measure is number ⌊j / fraction⌋ of all, both counted from 0."""
        rows: list[int] = []
        while (k := int((self._taken + len(rows)) / self.fraction)) < self.seen + size:
            rows.append(max(0, k - self.seen))
        return rows


def _can_be_joined(batch: CallArguments) -> bool:
    """Whether a call of one sample may be measured in a batch with others.

    Of one sample nothing shows whether what else there is belongs to it, or to all. A mask that is
    as long as the sequence does.
    """
    parts = [leaf for leaf in leaves_of(batch) if entries_of(leaf) is not None]
    return len(parts) == 1 or (
        all(isinstance(part, Tensor) and part.dim() > 1 for part in parts)
        and len({part.shape[:2] for part in parts}) == 1
        and parts[0].shape[1] > 1
    )


def _copied(leaf: Any) -> Any:
    if isinstance(leaf, Shared):
        return Shared(_copied(leaf.part))
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


class _Before(NamedTuple):
    """A parameter, and what it was."""

    parameter: nn.Parameter
    version: int
    place: int
    requires_grad: bool
    checksum: int

    @classmethod
    def of(cls, parameter: nn.Parameter) -> _Before:
        return cls(parameter, *State.of(parameter), checksum(parameter))

    def is_now(self, parameter: nn.Parameter, bits: bool) -> bool:
        """Whether it is the same parameter with the same numbers."""
        if self.parameter is not parameter or self.requires_grad != parameter.requires_grad:
            return False
        same = (self.version, self.place, self.requires_grad) == State.of(parameter)
        return (same and not bits) or self.checksum == checksum(parameter)


def _some_of(parameter: nn.Parameter) -> Tensor:
    """A view of one entry, which shows writes through ``.data`` that no version counts."""
    return parameter.detach()[(slice(1),) * parameter.dim()].reshape(-1)


def _is_transformed() -> bool:
    """Whether tensors stand for others, as inside ``torch.func`` and ``torch.jit.trace``."""
    return torch._C._get_tracing_state() is not None or maybe_current_level() is not None


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

    A part of the samples goes through the model a second time, forward and backward, in groups
    that are gathered over the user's calls. Ω is :func:`~avalanche_mas.estimate_importance` of
    exactly these samples.

    :param model: any module, in eval mode, see :class:`Watch`.
    :param output: ``"norm"``, ``"vector"`` or ``"squares"``, as for ``estimate_importance``.
    :param fraction: the part of the samples that is measured.
    :return: a context manager, see :class:`Watch`.
    :raises ValueError: for an option out of range, or a model without trainable parameters.
    """
    return Watch(model, partial(global_mean, output=output), fraction)


def watch_local_importance(model: nn.Module, *, fraction: float = FRACTION) -> Watch:
    """l-MAS (Eq. 5-7) of what a deployed model is used for.

    A part of the samples goes through the model a second time, forward only, in groups that are
    gathered over the user's calls. Ω is :func:`~avalanche_mas.estimate_local_importance` of
    exactly these samples.

    :param model: any module, in eval mode, see :class:`Watch`.
    :param fraction: the part of the samples that is measured.
    :return: a context manager, see :class:`Watch`.
    :raises ValueError: for an option out of range, or a model without trainable parameters.
    """
    return Watch(model, LocalMean, fraction)


def global_mean(model: nn.Module, output: Output = "norm") -> RunningMean:
    """The running mean of MAS over calls of a model."""
    return RunningMean(model, partial(Exact, output=output), call_again)


class LocalMean(RunningMean):
    """The running mean of l-MAS over calls of a model, which may change from group to group."""

    engine: Local

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, Local, call_again)

    def add_whole(self, batch: Any) -> None:
        """As :meth:`.RunningMean.add_whole`."""
        self.engine.forget()
        super().add_whole(batch)
