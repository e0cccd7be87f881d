r"""The diagonal of the Fisher information, exact per sample.

.. math:: F = \frac{1}{N} \sum_k \mathrm{E}_{y}
    \left( \frac{\partial \log p(y|x_k; \theta)}{\partial \theta} \right)^2

The square is taken of each sample's own gradient, before any mean. The square of a batch's mean
gradient, which others use, depends on the batch size. There are three choices for y:

- ``"expected"``: the expectation over the model's own p(y|x_k), as F is defined. No labels are
  read. For classes it costs one backward pass for each, and for each place in a dense output.
- ``"sampled"``: one y drawn from p(y|x_k) for each sample, which is right on average and costs one
  backward pass. Where the model is almost certain, the few samples with a rare y decide.
- ``"empirical"``: the label of the data, which is another quantity. It goes to 0, faster than F,
  where the model fits its data.
"""

from collections.abc import Callable, Iterator, Mapping
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
    taken,
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

    :param model: any module whose output is one tensor, or a mapping with ``"logits"`` or
        ``"out"``.
    :param data: as for :func:`~avalanche_mas.estimate_importance`; ``fisher="empirical"`` needs
        labels: batches ``(x, y, ...)``, or dicts with labels in them.
    :param fisher: ``"expected"``, ``"sampled"`` or ``"empirical"``: which y, see this module.
    :param likelihood: ``"categorical"``: outputs (batch, classes) are the scores of a softmax, or
        (batch, classes, height, width) those of each place, and labels are class indices.
        ``"gaussian"``: outputs are the mean of a normal distribution of unit variance, as for a
        squared error; then F = (1/N) Σ_k Σ_c (∂F_c(x_k)/∂θ)².
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
    # the data's own generators are out of the estimate's sight behind the draws
    with preserve_state(data, model=model) as interrupts, interrupts.allowed():
        if fisher == "sampled":
            batches = iterate_batches(data, batch_size, num_workers, max_samples)
            data = _draw(map(taken, batches), seed)
        return estimate_importance(
            model,
            data,
            forward=log_likelihood(forward or _run, fisher, likelihood),
            output="squares",
            batch_size=batch_size,
            num_workers=num_workers,
            max_samples=max_samples,
            device=device,
            distributed=distributed,
            verbose=verbose,
        )


def log_likelihood(forward: Forward, fisher: Fisher, likelihood: Likelihood) -> Forward:
    """What F is the sum of squared gradients of, for each sample.

    :param forward: how a batch goes through the model.
    :param fisher: which y. ``"sampled"`` takes every y of batches that no numbers were drawn for.
    :param likelihood: of which distribution.
    :return: from the model and a batch to numbers of shape (batch, ·).
    """

    def numbers(model: nn.Module, batch: Any) -> Tensor:
        drawn = isinstance(batch, _Drawn)
        kind = fisher if drawn or fisher != "sampled" else "expected"
        scores = scores_of(forward(model, batch.inputs if drawn else batch))
        return _LIKELIHOODS[likelihood, kind](scores, batch)

    return numbers


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


def scores_of(output: Any) -> Tensor:
    """The one tensor in a model's output that a likelihood is of.

    :param output: a tensor, or a mapping with ``"logits"``, or ``"start_logits"`` and
        ``"end_logits"`` (transformers), or ``"out"`` (torchvision's segmentation), whatever else is
        in it.
    :return: that tensor, in float32 at least.
    :raises TypeError: for anything else.
    """
    if isinstance(output, Mapping):
        ends = [output[name] for name in ("start_logits", "end_logits") if name in output]
        whole = torch.stack(ends, -1)[..., None] if len(ends) == 2 else output  # two places
        output = output.get("logits", output.get("out", whole))
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the Fisher information is that of a likelihood, which takes a model's output as one "
            f"tensor; this model returned a {type(output).__name__}. Pass a forward that chooses "
            "from it, or use MASPlugin, which takes any output."
        )
    return output if output.dtype == torch.float64 else output.float()


def _log_p(scores: Tensor) -> Tensor:
    """log p of shape (batch, classes, places), where every place has a class of its own."""
    if scores.dim() < 2 or scores.dim() == 3:
        raise ValueError(
            f"likelihood='categorical' needs scores of shape (batch, classes) or (batch, classes, "
            f"height, width), the model returned {tuple(scores.shape)}. Where these are classes of "
            "words, pass a forward that returns scores.movedim(-1, 1).unsqueeze(-1); use "
            "likelihood='gaussian' for regression."
        )
    return (
        scores.flatten(2).log_softmax(1) if scores.dim() > 2 else scores.log_softmax(1)[..., None]
    )


def _every_class(scores: Tensor, batch: Any) -> Tensor:
    """√p_c log p_c, whose squared gradients add up to Σ_c p_c (∂ log p_c)².

    Places are independent given x, and a gradient's mean is 0: their F add up.
    """
    log_p = _log_p(scores)
    return (log_p * log_p.detach().exp().sqrt()).flatten(1)


def _drawn(scores: Tensor, batch: _Drawn) -> Tensor:
    """log p of the class where the cumulative p first exceeds the place's uniform number."""
    log_p = _log_p(scores)
    cumulative = log_p.detach().exp().cumsum(1)
    threshold = _at_places(batch.uniform, log_p.shape[2]).to(cumulative) * cumulative[:, -1:]
    y = (cumulative <= threshold).sum(1, keepdim=True)  # an impossible class is never the first
    return log_p.gather(1, y.clamp(max=log_p.shape[1] - 1)).sum(2)


def _at_places(uniform: Tensor, places: int) -> Tensor:
    """From a sample's uniform number to independent ones for its places: (batch, 1, places).

    The first place has the number itself, the others splitmix64 (Steele et al., OOPSLA 2014)
    started from it, so that they are the same again in whatever batch the sample is.
    """
    z = (uniform.double() * 2.0**52).long()[:, None]
    z = z + torch.arange(1, places, device=z.device) * -0x61C8864680B583EB
    z = (z ^ _shifted(z, 30)) * -0x40A7B892E31B1A47
    z = (z ^ _shifted(z, 27)) * -0x6B2FB644ECCEEE15
    others = _shifted(z ^ _shifted(z, 31), 11).double() * 2.0**-53
    return torch.cat([uniform[:, None], others.to(uniform)], 1)[:, None]


def _shifted(z: Tensor, bits: int) -> Tensor:
    """z >> bits of 64 bits without a sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _labelled(scores: Tensor, batch: Any) -> Tensor:
    """log p of the labels; a place whose label is negative has none, as in ``cross_entropy``."""
    y, log_p = _labels(batch), _log_p(scores)
    if y.is_floating_point() or y.numel() != len(scores) * log_p.shape[2]:
        raise ValueError(
            f"fisher='empirical' needs one class index for each sample, or for each place in it, "
            f"got labels of {y.dtype} and shape {tuple(y.shape)} for scores of shape "
            f"{tuple(scores.shape)}. Use likelihood='gaussian' for regression."
        )
    y = y.reshape(len(scores), 1, -1).long()
    return (log_p.gather(1, y.clamp(min=0)) * (y >= 0)).sum(2)


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
