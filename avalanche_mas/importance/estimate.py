"""The public estimates and the one running mean behind them: model × data → Ω."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from avalanche_mas.importance.batches import (
    Forward,
    OneSample,
    Some,
    Split,
    batch_size_of,
    count_batches,
    model_input,
    to_device,
)
from avalanche_mas.importance.engines import reference
from avalanche_mas.importance.engines.base import (
    DISAGREES,
    Engine,
    EngineName,
    MakeEngine,
    VerificationError,
    Verify,
)
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.finite import NotFiniteError, check_finite
from avalanche_mas.importance.engines.local import Local
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.objectives import OBJECTIVES, Output, mean
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.interrupts import DeferredInterrupts
from avalanche_mas.importance.parameters import unwrap, zeros
from avalanche_mas.importance.shadow import converted, preserve_state
from avalanche_mas.importance.sharing import Share, buffers_of_first, check_same, check_same_data
from avalanche_mas.importance.standard_error import StandardError
from avalanche_mas.importance.team import Distributed, Team

SETTLED_AFTER = 4096
"""Samples after which a float32 sum is added to one in float64: a sum of so many positive numbers
that are alike loses up to a ten-thousandth of each, one of 16 million would not grow any more."""


@dataclass(frozen=True)
class Options:
    """How an estimate goes through its data, see :func:`estimate_importance`.

    :raises ValueError: for a number out of range, or an unknown option.
    """

    forward: Forward | None = None
    split: Split | None = None
    verify: Verify = "growing"
    batch_size: int = 64
    num_workers: int = 0
    max_samples: int | None = None
    device: torch.device | str | None = None
    distributed: Distributed = "split"
    verbose: bool = False

    def __post_init__(self) -> None:
        check_positive(batch_size=self.batch_size, max_samples=self.max_samples)
        if self.verify not in get_args(Verify):
            raise ValueError(f"verify must be one of {get_args(Verify)}, got {self.verify!r}")


def estimate_importance(
    model: nn.Module,
    data: Any,
    *,
    forward: Forward | None = None,
    split: Split | None = None,
    output: Output = "norm",
    engine: EngineName = "auto",
    verify: Verify = "growing",
    batch_size: int = 64,
    num_workers: int = 0,
    max_samples: int | None = None,
    device: torch.device | str | None = None,
    distributed: Distributed = "split",
    verbose: bool = False,
) -> Importance:
    r"""Global MAS: how sensitive the network's output is to each parameter.

    .. math:: \Omega_{ij} = \frac{1}{N} \sum_{k=1}^{N}
        \left| \frac{\partial \lVert F(x_k; \theta) \rVert_2^2}{\partial \theta_{ij}} \right|

    (Eq. 2 and section 4.1 of Aljundi et al., *Memory Aware Synapses*, ECCV 2018): per sample,
    absolute value first, mean after. The model runs in eval mode, labels are never read, and
    afterwards model, data loader and random number generators are as they were, bit for bit. The
    result does not depend on batch size, order or number of workers, except by round-off. F(x_k) is
    what the model makes of x_k alone: a model that mixes the samples of a batch is measured one
    sample at a time.

    :param model: any module; ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``
        wrappers are looked through. Only parameters with ``requires_grad`` are measured.
    :param data: a ``Dataset``, a ``DataLoader``, a tensor of samples, or any iterable of batches.
        A batch is ``x``, ``(x, ...)`` or a dict of arguments (labels in it are left out).
    :param forward: ``forward(model, batch) -> output`` for anything else, such as several inputs
        or task labels; receives the whole batch on the device.
    :param split: ``split(batch) -> batches of one sample each``, where samples are not the entries
        of the tensors' first dimension: lists of images, graphs, packed sequences. They are
        measured one at a time.
    :param output: ``"norm"`` for the squared Euclidean norm of the output (Eq. 2); ``"vector"`` for
        the norm of the gradient vector over outputs, mean_k ‖∂F(x_k)/∂θ‖₂ (section 4.1);
        ``"squares"`` for mean_k Σ_c (∂F_c(x_k)/∂θ)², the diagonal of the Fisher information where
        F_c is a log-likelihood. The latter two cost one backward pass per output c.
    :param engine: ``"exact"`` (rules of the operations, see :func:`~avalanche_mas.check_model`),
        ``"vmap"`` and ``"loop"`` agree; ``"batch"`` is the approximation of other libraries, see
        :func:`avalanche_mas.importance.engines.reference.batch`. ``"auto"`` is ``"exact"``, where
        what has no rule falls back to vmap, or to the loop where vmap cannot transform the model;
        the result's :meth:`~avalanche_mas.Importance.summary` says which parameters fell back and
        why.
    :param verify: how often ``"exact"`` is compared with the loop. ``"growing"``: on three samples
        of the first batch, when a parameter first has an importance, and on two samples at batch
        64, 128, 256, and so on, for less than 3 % of the time; ``"every batch"``; or ``"off"``.
        What a sample's output is apart from others is compared as well: for the first batch, and
        for a few samples of batches 2, 4, 8, and so on, or for every batch.
        A parameter in which they differ is measured without rules. Where that shows only late, all
        are: the data are read again, or if they can be read only once, an error says so.
    :param batch_size: samples per batch when ``data`` is a ``Dataset`` or a tensor.
    :param num_workers: loader processes when ``data`` is a ``Dataset``.
    :param max_samples: upper limit for N: a fixed random subset of a map-style ``Dataset``, the
        first samples of anything else. The standard error of each layer's mean in the result's
        summary shows whether it was enough.
    :param device: where to compute. Default: where the model is; otherwise on a copy of the model.
    :param distributed: where several processes of ``torch.distributed`` run, all of them must call
        this, and each returns Ω of all samples. ``"split"``: all are given the same data, and
        sample k belongs to process k mod P; of a ``Dataset`` or a tensor each reads its own
        samples only, of anything else all. ``"own"``: each is given data of its own. ``"off"``:
        this process measures by itself what it is given. Alone it makes no difference.
    :param verbose: show a progress bar, in the first process.
    :return: Ω on the parameters' devices, in float64 for float64 parameters and in float32 for all
        others, with N. A parameter that no sample uses has Ω = 0.
    :raises ValueError: for an unknown option, a model without trainable parameters, data without
        samples, processes whose data or parameters are not the same, or as a
        :class:`~.engines.finite.NotFiniteError` an output or gradient that is not finite.
    :raises VerificationError: if rules and loop differ, and the data cannot be read again.
    :raises ProcessFailedError: if another process failed.
    :raises TypeError: for data, batches or outputs of a form that cannot be understood.
    """
    check_engine(output, engine)
    options = Options(
        forward,
        split,
        verify,
        batch_size,
        num_workers,
        max_samples,
        device,
        distributed,
        verbose,
    )
    slow = {"vmap": reference.vmap, "loop": reference.loop, "batch": reference.batch}
    if engine in slow:
        make = partial(reference.Reference, slow[engine], objective=OBJECTIVES[output])
        return _estimate(model, data, make, options)
    exact = partial(Exact, output=output, verify=verify)

    def without_rules(names: set[str]) -> MakeEngine:
        return partial(exact, unruled=dict.fromkeys(names, DISAGREES))

    return _verified(model, data, exact, without_rules, options)


def estimate_local_importance(
    model: nn.Module,
    data: Any,
    *,
    forward: Forward | None = None,
    split: Split | None = None,
    verify: Verify = "growing",
    batch_size: int = 64,
    num_workers: int = 0,
    max_samples: int | None = None,
    device: torch.device | str | None = None,
    distributed: Distributed = "split",
    verbose: bool = False,
) -> Importance:
    r"""Local MAS (l-MAS): Hebbian importance of each layer by itself, from forward passes only.

    .. math:: \Omega_{ij} = \frac{1}{N} \sum_{k=1}^{N} y_i^k \, y_j^k

    for a ReLU layer with input y_j and output y_i (Eq. 7 and section 4.3 of Aljundi et al., ECCV
    2018); in general ½ |∂‖F_l‖²/∂θ_l| per sample and layer, see
    :mod:`avalanche_mas.importance.engines.local` for what counts as a layer. The factor 2 of the
    derivative is dropped, as in Eq. 7.

    Parameters, return value and errors are those of :func:`estimate_importance`. Parameters outside
    linear, convolutional, normalisation and embedding layers get Ω = 0, and a warning names them.
    """
    options = Options(
        forward,
        split,
        verify,
        batch_size,
        num_workers,
        max_samples,
        device,
        distributed,
        verbose,
    )
    local = partial(Local, verify=verify)
    return _verified(model, data, local, lambda _: partial(local, one_by_one=True), options)


def _verified(
    model: nn.Module,
    data: Any,
    make_engine: MakeEngine,
    make_slower: Callable[[set[str]], MakeEngine],
    options: Options,
) -> Importance:
    """Begins again, by a slower engine, where an estimate turns out to be wrong on the way."""
    try:
        return _estimate(model, data, make_engine, options)
    except VerificationError as error:
        if isinstance(data, Iterator) or Team.of(options.distributed).size > 1:
            raise
        warnings.warn(f"{error} The data are read again for that.", stacklevel=3)
        return _estimate(model, data, make_slower(error.measured), options)


def _estimate(model: nn.Module, data: Any, make_engine: MakeEngine, options: Options) -> Importance:
    """The one loop over data."""
    model, forward = unwrap(model), options.forward
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    place = home if options.device is None else torch.device(options.device)
    team = Team.of(options.distributed, place)
    share = Share(team.rank, team.size) if options.distributed == "split" else Share()
    with team.reporting():
        if place != home and (place.type != home.type or place.index is not None):
            model = converted(model, lambda tensor: tensor.to(place, copy=True))
        running = RunningMean(model, make_engine, forward)
        with measuring(model, data) as interrupts:
            batches = share.batches(
                data, options.batch_size, options.num_workers, options.max_samples
            )
            check_same(team, model, share)
            with buffers_of_first(team, model):
                # not under a name: it is to be gone when an interrupt may be raised, because Python
                # drops one that is raised in a __del__
                for batch in _shown(
                    interrupts.between(batches),
                    count_batches(data, options.batch_size * share.size, options.max_samples),
                    options.verbose and team.rank == 0,
                ):
                    for part in _parts(batch, options):
                        running.add(part)
        if team.size > 1:
            check_same_data(team, share)
            running.gather(team)
    importance = running.finish()
    return importance if place == home else importance.to(home)


def _parts(batch: Any, options: Options) -> Iterator[Any]:
    """What of a batch goes through the network, perhaps as batches of one sample."""
    if options.split is None:
        yield batch if options.forward else model_input(batch)
        return
    whole, samples = batch if isinstance(batch, Some) else (batch, None)
    for k, sample in enumerate(options.split(whole)):
        if samples is None or k in samples:
            yield OneSample(sample)


def _shown(batches: Iterator[Any], total: int | None, verbose: bool) -> Iterator[Any]:
    """The batches, perhaps with a progress bar."""
    if not verbose:
        return batches
    from tqdm.auto import tqdm  # which a bare machine need not have

    return iter(tqdm(batches, desc="importance", total=total, leave=False))


@contextmanager
def measuring(model: nn.Module, data: Any = None) -> Iterator[DeferredInterrupts]:
    """Nothing that is done inside shows afterwards; no advice of torch's for users of vmap."""
    with preserve_state(data, model=model) as interrupts, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield interrupts


class RunningMean:
    """The mean importance of batches that are added one after the other, as of all at once.

    :param model: unwrapped. It is not changed, and must stay as it is.
    :param make_engine: network, parameters → engine.
    :param forward: how a batch goes through the model; None for ``model(x)``.
    :raises ValueError: if the model has no trainable parameters.
    """

    def __init__(
        self, model: nn.Module, make_engine: MakeEngine, forward: Forward | None = None
    ) -> None:
        self.model = model
        self.network = Network(model, forward)
        self.parameters = self.network.trainable()
        self.device = next(iter(self.parameters.values())).device
        self.engine: Engine = make_engine(self.network, self.parameters)
        self.samples = 0
        """How many have been added."""
        self._batches = 0
        self._fallbacks: dict[str, str] = {}  # of other processes
        with DeferredInterrupts(), torch.inference_mode(False):
            self.total = zeros(self.parameters)
            """Σ_k |g_k| since sums were settled."""
            self.error = StandardError(self.total)
        self._settled: dict[str, Tensor] = {}  # Σ_k |g_k| before, in float64
        self._unsettled = 0
        self._scratch: dict[str, Tensor] | None = None

    def add(self, batch: Any) -> None:
        """Measures a batch and adds its samples. Call it inside :func:`measuring`.

        :raises NotFiniteError: if a number is NaN or infinite; the sum is then lost.
        """
        with self.network.guarded():
            batch = self.network.mark_shared(to_device(batch, self.device))
            size = batch_size_of(batch)
            if not size:
                return
            self.engine(batch, self.total)
        self.note(size)
        if not self.error.finite:
            check_finite(self.total, self.network, batch, self._batches - 1)

    def mark(self, batch: Any) -> Any:
        """The batch, with what its samples share marked, see :mod:`.whose`; it leaves no trace."""
        with measuring(self.model):
            return self.network.mark_shared(to_device(batch, self.device))

    def add_whole(self, batch: Any) -> None:
        """Measures a batch and adds all of it, or after an error nothing; it leaves no trace.

        :raises NotFiniteError: if a number is NaN or infinite.
        """
        with measuring(self.model):
            scratch, self._scratch = self._scratch or zeros(self.parameters), None
            with self.network.guarded():
                batch = self.network.mark_shared(to_device(batch, self.device))
                self.engine(batch, scratch)
            sums = [importance.sum().to(self.device) for importance in scratch.values()]
            if not bool(torch.stack(sums).isfinite().all()):  # in one pass over the memory
                check_finite(scratch, self.network, batch, self._batches)
            for name, total in self.total.items():
                total.add_(scratch[name])
                scratch[name].zero_()
            self._scratch = scratch  # an error drops it, with what has been added to it
            self.note(batch_size_of(batch))

    def note(self, size: int) -> None:
        """Counts samples that an engine has just added to the total."""
        self.samples += size
        self._batches += 1
        self._unsettled += size
        self.error.note(size)
        if self._unsettled >= SETTLED_AFTER:
            self._settle()

    def _settle(self) -> None:
        for name, total in self.total.items():
            if name in self._settled:
                self._settled[name].add_(total)
            else:
                self._settled[name] = total.to(torch.float64, copy=True)
            total.zero_()
        self._unsettled = 0
        self.error.restart()

    def gather(self, team: Team) -> None:
        """Continues with what all processes have added."""
        own = self.samples, self.error.state(), dict(self.engine.fallbacks), bool(self._settled)
        everyone = team.all_gather(own)
        self.samples = sum(samples for samples, *_ in everyone)
        self.error.join([state for _, state, *_ in everyone])
        self._fallbacks = {name: why for *_, own, _ in everyone for name, why in own.items()}
        if any(settled for *_, settled in everyone):
            self._settle()
            team.all_reduce_(self._settled.values())
        else:
            team.all_reduce_(self.total.values())

    @property
    def importance(self) -> Importance:
        """Ω of all samples so far, as a copy.

        :raises ValueError: if there are none.
        :raises NotFiniteError: if it is not finite.
        """
        return self._importance({})

    def finish(self) -> Importance:
        """The same without a copy: no more samples can be added."""
        return self._importance(self.total)

    def _importance(self, out: Mapping[str, Tensor]) -> Importance:
        if not self.samples:
            raise ValueError(
                "the data gave no samples, so there is no mean to take; an iterator may be "
                "exhausted"
            )
        omega = {}
        with DeferredInterrupts(), torch.inference_mode(False), torch.no_grad():
            for name, total in self.total.items():
                if name in self._settled:
                    whole = self._settled[name] + total
                    omega[name] = mean(whole, self.samples, out=whole).to(total.dtype)
                else:
                    omega[name] = mean(total, self.samples, out=out.get(name))
                if not bool(omega[name].isfinite().all()):
                    raise NotFiniteError(
                        f"the importance of {name!r} is not finite: an input, the model's output "
                        "or its gradient held NaN or infinity, or their square overflowed"
                    )
        return Importance(
            omega,
            self.samples,
            standard_errors=self.error.of_layers(),
            fallbacks={**self.engine.fallbacks, **self._fallbacks},
        )


def check_engine(output: str, engine: str) -> None:
    """:raises ValueError: for an unknown output or engine, or two that do not go together."""
    if output not in get_args(Output):
        raise ValueError(f"output must be 'norm', 'vector' or 'squares', got {output!r}")
    if engine not in get_args(EngineName):
        raise ValueError(f"engine must be one of {', '.join(get_args(EngineName))}; got {engine!r}")
    if output != "norm" and engine == "batch":
        raise ValueError("engine='batch' measures output='norm' only; use engine='auto'")


def check_positive(**values: int | None) -> None:
    """:raises ValueError: for a number below 1."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
