"""Ω from a deployed model's own inference (Fig. 1 of Aljundi et al., ECCV 2018)."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from avalanche_mas.importance.batches import batch_size_of, take
from avalanche_mas.importance.engines.exact import Exact, Output
from avalanche_mas.importance.engines.inference_pass import Live, RunningLocal
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.parameters import unwrap
from avalanche_mas.importance.running import Running

FRACTION = 0.1
"""Of the samples, which is measured unless another one is asked for.

What l-MAS multiplies for a linear layer is as much as the layer itself does for a sample, so that a
watched model takes at least (1 + fraction) times as long."""


class Mean(Protocol):
    """A running mean of importance, such as :class:`.Running`."""

    samples: int

    def add(self, batch: Any) -> None:
        """Measures a batch, which leaves no trace."""

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
    parameters, modes, gradients and random states are not touched, nor is its output.

    :param model: called by the user as ever, in eval mode, from one thread at a time. It may be
        wrapped, and is then to be called by the wrapper or from inside. What
        ``DistributedDataParallel`` computes in other processes is not seen.
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
        self._hooks: list[RemovableHandle] = []
        self._calls: list[_Call | None] = []  # None for those inside the first
        self._following = ExitStack()
        self._thread: int | None = None

    @property
    def samples(self) -> int:
        """Samples that have been measured."""
        return self._mean.samples

    @property
    def importance(self) -> Importance:
        """Ω of the samples that have been measured so far; also inside the context.

        :raises ValueError: if there are none, or if it is not finite.
        """
        return self._mean.importance

    def __enter__(self) -> Watch:
        own = set(self._model.parameters())
        if any(not own.isdisjoint(watch._model.parameters()) for watch in _watching):
            raise ValueError(
                "the model, or a part of it, is being watched already: leave that context first. "
                "For a second importance of the same samples use observe or an estimate."
            )
        _watching.add(self)
        self._hooks = [
            # before the user's own hooks, through which a second pass goes again
            self._called.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True),
            self._called.register_forward_hook(self._after, with_kwargs=True, always_call=True),
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        _watching.discard(self)
        self._hooks = []
        self._following.close()  # of a call that ended with something like Ctrl-C
        self._calls.clear()
        if kind is None and not self.seen:
            warnings.warn(
                "the watched model was never called: call the object that was given to watch, or "
                "the module inside it, and not its forward()",
                stacklevel=2,
            )

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._calls and self._thread == threading.get_ident():
            self._calls.append(None)  # by itself, or by a measurement
            return
        if self._calls:
            raise RuntimeError("a watched model was called from two threads at the same time")
        if training := [name for name, part in self._model.named_modules() if part.training]:
            raise ValueError(
                f"the watched model is in train mode ({training[0] or 'all of it'}), but importance"
                " is that of a network as it is used: call model.eval() first"
            )
        self._thread = threading.get_ident()
        self._calls.append(None)  # what follows may call the model
        try:
            self._calls[0] = self._begun(CallArguments(args, kwargs))
        except BaseException:
            self._calls.clear()
            raise

    def _begun(self, batch: CallArguments) -> _Call:
        size = batch_size_of(batch)
        chosen = self._chosen(size)
        if not chosen:
            return _Call(size, 0, batch)
        rows = torch.tensor(chosen)
        with torch.inference_mode(False), torch.no_grad():
            kept = take(batch, rows, size)  # copies: the model may write to what it is given
        parts = tuple(self._parts(batch)) if self._own else ()
        local = self._mean if isinstance(self._mean, RunningLocal) else None
        live = local.follow(parts[0], size, rows) if local and len(parts) == 1 else None
        if live is None:
            return _Call(size, len(chosen), batch, kept)
        self._following.enter_context(live)
        return _Call(size, len(chosen), parts[0], kept, live)

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if len(self._calls) != 1 or self._calls[0] is None:
            del self._calls[-1:]
            return
        call = self._calls[0]
        self._following.close()
        self._calls[0] = None
        try:
            if output is not None:  # else the forward pass has failed
                self._add(call)
                self.seen, self._taken = self.seen + call.size, self._taken + call.chosen
        finally:
            self._calls.clear()

    def _add(self, call: _Call) -> None:
        if call.kept is None:
            return
        local = self._mean if isinstance(self._mean, RunningLocal) else None
        if call.live and local and local.add_live(call.live, call.batch):
            return
        for part in self._parts(call.kept):
            self._mean.add(part)

    def _chosen(self, size: int) -> list[int]:
        """The j-th sample to measure is number ⌊j / fraction⌋ of all, both counted from 0."""
        rows: list[int] = []
        while (k := int((self._taken + len(rows)) / self.fraction)) < self.seen + size:
            rows.append(k - self.seen)
        return rows


class _Call(NamedTuple):
    """A call of the watched model that is under way."""

    size: int
    chosen: int  # so many of them are measured
    batch: CallArguments
    kept: CallArguments | None = None  # copies of the samples to measure
    live: Live | None = None


def _called(model: nn.Module) -> nn.Module:
    """The module whose calls are seen by hooks, whether or not the wrapper is called.

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
    return Watch(model, Running(model, partial(Exact, output=output), call_again), fraction)


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
    return Watch(model, RunningLocal(model, call_again), fraction)
