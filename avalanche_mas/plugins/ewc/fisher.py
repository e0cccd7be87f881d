r"""The diagonal of the Fisher information, exact per sample.

.. math:: F = \frac{1}{N} \sum_k \mathrm{E}_{y}
    \left( \frac{\partial \log p(y|x_k; \theta)}{\partial \theta} \right)^2

The square is taken of each sample's own gradient, before any mean. The square of a batch's mean
gradient, which others use, depends on the batch size. There are three choices for y:

- ``"expected"``: the expectation over the model's own p(y|x_k), as F is defined. No labels are
  read. For classes it costs one backward pass for each.
- ``"sampled"``: one y drawn from p(y|x_k) for each sample, which is right on average and costs one
  backward pass. Where the model is almost certain, the few samples with a rare y decide.
- ``"empirical"``: the label of the data, which is another quantity. It goes to 0, faster than F,
  where the model fits its data.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from avalanche_mas.importance import Importance, estimate_importance
from avalanche_mas.importance.batches import (
    Forward,
    batch_size_of,
    call_model,
    iterate_batches,
    labels_of,
    model_input,
)
from avalanche_mas.importance.shadow import preserve_state
from avalanche_mas.importance.team import Distributed

Fisher = Literal["expected", "sampled", "empirical"]
Likelihood = Literal["categorical", "gaussian"]


def estimate_fisher(
    model: nn.Module,
    data: Any,
    *,
    fisher: Fisher = "expected",
    likelihood: Likelihood = "categorical",
    forward: Forward | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    max_samples: int | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
    distributed: Distributed = "split",
    verbose: bool = False,
) -> Importance:
    """The diagonal Fisher information of a model on data, as an importance.

    Like every estimate it runs in eval mode, leaves no trace, and does not depend on the batch
    size, except by round-off.

    :param model: any module whose output is one tensor.
    :param data: as for :func:`~avalanche_mas.estimate_importance`; ``fisher="empirical"`` needs
        labels: batches ``(x, y, ...)``, or dicts with labels in them.
    :param fisher: ``"expected"``, ``"sampled"`` or ``"empirical"``: which y, see this module.
    :param likelihood: ``"categorical"``: outputs (batch, classes) are the scores of a softmax, and
        labels are class indices. ``"gaussian"``: outputs are the mean of a normal distribution of
        unit variance, as for a squared error; then F = (1/N) Σ_k Σ_c (∂F_c(x_k)/∂θ)².
    :param forward: ``forward(model, batch) -> output``, if not ``model(x)``.
    :param batch_size: samples per batch where ``data`` is a dataset or a tensor.
    :param num_workers: loader processes where ``data`` is a dataset.
    :param max_samples: upper limit for N, see :func:`~avalanche_mas.estimate_importance`.
    :param device: where to compute. Default: where the model is; otherwise on a copy of the model.
    :param seed: of the draws, which are the module's own: no other generator is touched.
    :param distributed: where several processes of ``torch.distributed`` run, whose data these are,
        see :func:`~avalanche_mas.estimate_importance`. Draws are those of one process.
    :param verbose: show a progress bar.
    :return: F, with N.
    :raises ValueError: for an unknown option, labels that are missing or of a wrong form, and as
        :func:`~avalanche_mas.estimate_importance`.
    :raises TypeError: if the output is not one tensor.
    """
    check_fisher(fisher, likelihood)
    run, of_batch = forward or _run, _LIKELIHOODS[likelihood, fisher]

    def log_likelihood(model: nn.Module, batch: Any) -> Tensor:
        inputs = batch.inputs if isinstance(batch, _Drawn) else batch
        return of_batch(_tensor(run(model, inputs)), batch)

    # the data's own generators are out of the estimate's sight behind the draws
    with preserve_state(data, model=model) as interrupts, interrupts.allowed():
        if fisher == "sampled":
            data = _draw(iterate_batches(data, batch_size, num_workers, max_samples), seed)
        return estimate_importance(
            model,
            data,
            forward=log_likelihood,
            output="squares",
            batch_size=batch_size,
            num_workers=num_workers,
            max_samples=max_samples,
            device=device,
            distributed=distributed,
            verbose=verbose,
        )


def check_fisher(fisher: str, likelihood: str) -> None:
    """:raises ValueError: for an unknown option, or two that do not go together."""
    if fisher not in get_args(Fisher):
        raise ValueError(f"fisher must be one of {', '.join(get_args(Fisher))}; got {fisher!r}")
    if likelihood not in get_args(Likelihood):
        raise ValueError(f"likelihood must be 'categorical' or 'gaussian', got {likelihood!r}")
    if (likelihood, fisher) not in _LIKELIHOODS:
        raise ValueError(
            "fisher='sampled' is for likelihood='categorical'; with 'gaussian' use 'expected', "
            "which costs one backward pass for each output"
        )


class _Drawn(NamedTuple):
    """A batch, and what decides of each of its samples which class is drawn.

    A sample must be drawn the same class whenever it is run again, in whatever batch.
    """

    inputs: Any
    uniform: Tensor  # in [0, 1)


def _draw(batches: Iterator[Any], seed: int) -> Iterator[_Drawn]:
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        size = batch_size_of(batch)
        yield _Drawn(batch, torch.rand(size, generator=generator, dtype=torch.float32))


def _run(model: nn.Module, batch: Any) -> Any:
    return call_model(model, model_input(batch))


def _tensor(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the Fisher information is that of a likelihood, which takes a model's output as one "
            f"tensor; this model returned a {type(output).__name__}. Pass a forward that chooses "
            "from it, or use MASPlugin, which takes any output."
        )
    return output if output.dtype == torch.float64 else output.float()


def _log_p(scores: Tensor) -> Tensor:
    if scores.dim() != 2:
        raise ValueError(
            f"likelihood='categorical' needs scores of shape (batch, classes), the model returned "
            f"{tuple(scores.shape)}. Use likelihood='gaussian' for regression."
        )
    return scores.log_softmax(1)


def _every_class(scores: Tensor, batch: Any) -> Tensor:
    """√p_c log p_c, whose squared gradients add up to Σ_c p_c (∂ log p_c)²."""
    log_p = _log_p(scores)
    return log_p * log_p.detach().exp().sqrt()


def _drawn(scores: Tensor, batch: _Drawn) -> Tensor:
    """log p of the class where the cumulative p first exceeds the sample's uniform number."""
    log_p = _log_p(scores)
    cumulative = log_p.detach().exp().cumsum(1)
    threshold = batch.uniform.unsqueeze(1).to(cumulative) * cumulative[:, -1:]
    y = (cumulative <= threshold).sum(1, keepdim=True)  # an impossible class is never the first
    return log_p.gather(1, y.clamp(max=scores.shape[1] - 1))


def _labelled(scores: Tensor, batch: Any) -> Tensor:
    """log p of the label."""
    y = _labels(batch)
    if y.is_floating_point() or y.numel() != len(scores):
        raise ValueError(
            f"fisher='empirical' needs one class index for each sample, got labels of {y.dtype} "
            f"and shape {tuple(y.shape)}. Use likelihood='gaussian' for regression."
        )
    return _log_p(scores).gather(1, y.reshape(-1, 1).long())


def _outputs(output: Tensor, batch: Any) -> Tensor:
    """The mean itself: E (∂ log p)² = Σ_c (∂F_c)² at unit variance."""
    return output.flatten(1)


def _deviations(output: Tensor, batch: Any) -> Tensor:
    """log p = −½ ‖F − y‖² of the targets, up to a constant."""
    y = _labels(batch)
    if y.shape != output.shape:
        raise ValueError(
            f"likelihood='gaussian' needs targets of the output's shape {tuple(output.shape)}, got "
            f"{tuple(y.shape)}"
        )
    return -0.5 * (output - y.to(output)).square().flatten(1).sum(1, keepdim=True)


def _labels(batch: Any) -> Tensor:
    y = labels_of(batch)
    if not isinstance(y, Tensor):
        raise ValueError(NO_LABELS)
    return y


# Each gives, for every sample, numbers whose squared gradients add up to its E_y (∂ log p)².
_LIKELIHOODS: dict[tuple[str, str], Callable[[Tensor, Any], Tensor]] = {
    ("categorical", "expected"): _every_class,
    ("categorical", "sampled"): _drawn,
    ("categorical", "empirical"): _labelled,
    ("gaussian", "expected"): _outputs,
    ("gaussian", "empirical"): _deviations,
}

NO_LABELS = (
    "fisher='empirical' needs labels, but the data have none. Use fisher='expected' or 'sampled', "
    "which ask the model, or give data whose samples are (x, y)."
)
"""What is wrong with unlabelled data."""
