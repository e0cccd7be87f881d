"""The one loop over data: model × data → Ω."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from avalanche_mas.importance.batches import (
    Forward,
    batch_size_of,
    call_model,
    count_batches,
    model_input,
    to_device,
)
from avalanche_mas.importance.engines import reference
from avalanche_mas.importance.engines.base import PlannedEngine, zeros
from avalanche_mas.importance.engines.exact import Exact, Output
from avalanche_mas.importance.engines.finite import NotFiniteError, check_finite
from avalanche_mas.importance.engines.local import Local
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.importance import Importance
from avalanche_mas.importance.parameters import unwrap
from avalanche_mas.importance.shadow import untouched
from avalanche_mas.importance.sharing import Share, check_same, check_same_data
from avalanche_mas.importance.standard_error import StandardError
from avalanche_mas.importance.team import Distributed, Team

EngineName = Literal["auto", "exact", "vmap", "loop", "batch"]
_Engine = Callable[[Any, dict[str, Tensor]], None]
_MakeEngine = Callable[[Network, dict[str, Tensor]], _Engine]


def estimate_importance(
    model: nn.Module,
    data: Any,
    *,
    forward: Forward | None = None,
    output: Output = "norm",
    engine: EngineName = "auto",
    batch_size: int = 64,
    num_workers: int = 0,
    max_samples: int | None = None,
    device: torch.device | str | None = None,
    distributed: Distributed = "split",
    progress: bool = False,
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
    :param output: ``"norm"`` for the squared Euclidean norm of the output (Eq. 2); ``"vector"`` for
        the norm of the gradient vector over outputs, mean_k ‖∂F(x_k)/∂θ‖₂ (section 4.1);
        ``"squares"`` for mean_k Σ_c (∂F_c(x_k)/∂θ)², the diagonal of the Fisher information where
        F_c is a log-likelihood. The latter two cost one backward pass per output c.
    :param engine: ``"exact"`` (rules of the operations, see :func:`~avalanche_mas.check_model`),
        ``"vmap"`` and ``"loop"`` agree; ``"batch"`` is the approximation of other libraries, see
        :func:`avalanche_mas.importance.engines.reference.batch`. ``"auto"`` is ``"exact"``, where what has
        no rule falls back to vmap, or to the loop where vmap cannot transform the model; the
        result's :meth:`~avalanche_mas.Importance.summary` says which parameters fell back and why.
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
    :param progress: show a progress bar, in the first process.
    :return: Ω on the parameters' devices, in float64 for float64 parameters and in float32 for all
        others, with N. A parameter that no sample uses has Ω = 0.
    :raises ValueError: for an unknown option, a model without trainable parameters, data without
        samples, an output or gradient that is not finite, or processes whose data or parameters are
        not the same.
    :raises ProcessFailedError: if another process failed.
    :raises TypeError: for data, batches or outputs of a form that cannot be understood.
    """
    check_engine(output, engine)
    engines: dict[str, _MakeEngine] = {
        "auto": partial(Exact, output=output),
        "exact": partial(Exact, output=output),
        "vmap": _reference(reference.vmap, output),
        "loop": _reference(reference.loop, output),
        "batch": _reference(reference.batch, output),
    }
    return _estimate(
        engines[engine],
        model,
        data,
        forward,
        batch_size,
        num_workers,
        max_samples,
        device,
        distributed,
        progress,
    )


def estimate_local_importance(
    model: nn.Module,
    data: Any,
    *,
    forward: Forward | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    max_samples: int | None = None,
    device: torch.device | str | None = None,
    distributed: Distributed = "split",
    progress: bool = False,
) -> Importance:
    r"""Local MAS (l-MAS): Hebbian importance of each layer by itself, from forward passes only.

    .. math:: \Omega_{ij} = \frac{1}{N} \sum_{k=1}^{N} y_i^k \, y_j^k

    for a ReLU layer with input y_j and output y_i (Eq. 7 and section 4.2 of Aljundi et al., ECCV
    2018); in general ½ |∂‖F_l‖²/∂θ_l| per sample and layer, see
    :mod:`avalanche_mas.importance.engines.local` for what counts as a layer. The factor 2 of the derivative
    is dropped, as in Eq. 7.

    Parameters, return value and errors are those of :func:`estimate_importance`. Parameters outside
    linear, convolutional, normalisation and embedding layers get Ω = 0, and a warning names them.
    """
    return _estimate(
        Local,
        model,
        data,
        forward,
        batch_size,
        num_workers,
        max_samples,
        device,
        distributed,
        progress,
    )


def _estimate(
    make_engine: _MakeEngine,
    model: nn.Module,
    data: Any,
    forward: Forward | None,
    batch_size: int,
    num_workers: int,
    max_samples: int | None,
    device: torch.device | str | None,
    distributed: Distributed,
    progress: bool,
) -> Importance:
    check_positive(batch_size=batch_size, max_samples=max_samples)
    model = unwrap(model)
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    place = home if device is None else torch.device(device)
    team = Team.of(distributed, place)
    share = Share(team.rank, team.size) if distributed == "split" else Share()
    with team.reporting():
        if place != home and (place.type != home.type or place.index is not None):
            model = copy.deepcopy(model).to(place)
        network = Network(model, forward or call_model)
        parameters = network.trainable()
        with warnings.catch_warnings(), untouched(model, data):
            # torch tells users of vmap to ask for faster operations; ours did not choose vmap
            warnings.filterwarnings("ignore", message="There is a performance drop")
            total, samples = zeros(parameters), 0
            error = StandardError(total)
            measure = make_engine(network, parameters)
            batches = share.batches(data, batch_size, num_workers, max_samples)
            check_same(team, model, share)
            shown = tqdm(
                batches,
                desc="importance",
                total=count_batches(data, batch_size * share.size, max_samples),
                disable=not progress or team.rank > 0,
                leave=False,
            )
            for number, batch in enumerate(shown):
                inputs = to_device(batch if forward is not None else model_input(batch), place)
                size = batch_size_of(inputs)
                if size:
                    measure(inputs, total)
                    samples += size
                    error.note(size)
                    if not error.finite:
                        check_finite(total, network, inputs, number)
        fallbacks = measure.unruled if isinstance(measure, PlannedEngine) else {}
        if team.size > 1:
            check_same_data(team, share)
            everyone = team.meet((samples, error.state(), fallbacks))
            samples = sum(own for own, _, _ in everyone)
            error.join([state for _, state, _ in everyone])
            fallbacks = {name: why for _, _, own in everyone for name, why in own.items()}
            team.add_up(total.values())
    if not samples:
        raise ValueError(
            "the data gave no samples, so there is no mean to take; an iterator may be exhausted"
        )
    for name, omega in total.items():
        if not bool(torch.isfinite(omega).all()):
            raise NotFiniteError(
                f"the importance of {name!r} is not finite: the data, the model's output or its "
                "gradient hold NaN or infinity, or their square overflows"
            )
        omega.div_(samples)
    return Importance(
        {name: omega.to(home) for name, omega in total.items()},
        samples,
        errors=error.of_layers(),
        fallbacks=fallbacks,
    )


def _reference(engine: Callable[..., None], output: str) -> _MakeEngine:
    return lambda network, parameters: partial(engine, network, parameters, output=output)


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
