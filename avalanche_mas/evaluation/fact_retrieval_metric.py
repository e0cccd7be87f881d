"""Fact → image retrieval as a metric of Avalanche."""

from typing import Any

import torch
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import get_metric_name
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from avalanche_mas.evaluation.retrieval import Variant, check_retrieval, fact_retrieval_map


class FactRetrievalMAP(PluginMetric[float]):  # type: ignore[misc]
    """Mean average precision of :func:`fact_retrieval_map`, for ``EvaluationPlugin``.

    While a strategy evaluates a stream it gives two values, named as Avalanche's own are: after
    each experience ``Retrieval_mAP_merged_Exp/eval_phase/test_stream/Exp000``, where facts of the
    experience search among its own images, and at the end
    ``Retrieval_mAP_merged_Stream/eval_phase/test_stream``, where all facts search among all images.
    With k = 100 it is called ``Retrieval_mAP_at_100_merged``. An experience without images has NaN.
    (Avalanche's ``CSVLogger`` writes accuracy, loss and forgetting, and no other metric; the other
    loggers and ``EvaluationPlugin.get_all_metrics`` have all values.)

    Samples are ``(x, y)``, with the embedding of the fact and its masks in y, as for
    :class:`avalanche_mas.models.FactLoss`. Facts are distinguished by the dataset's attribute
    ``fact_numbers``, a number for each sample. Without it they are distinguished by y, and facts
    with the same embedding are one, which matters to the variant ``"full"`` only.

    :param variant: ``"full"``, ``"merged"`` or ``"present"``, see :func:`fact_retrieval_map`.
    :param k: how many images each fact retrieves; None for all.
    :raises ValueError: for an option out of range.
    """

    def __init__(self, variant: Variant = "merged", k: int | None = None) -> None:
        super().__init__()
        check_retrieval(variant, k)
        self.variant, self.k = variant, k
        self.reset()

    def reset(self) -> None:
        """Forget all images and facts."""
        self._vectors: list[Tensor] = []  # (batch, 3d) each
        self._shown: list[int] = []  # for each image a position in _targets
        self._targets: list[Tensor] = []  # (3d + 3,), one for each fact
        self._numbers: dict[Any, int] = {}  # what a fact is known by → position
        self._start = 0  # of the experience that is being evaluated

    def result(self) -> float:
        """Mean average precision over all images since ``reset``; NaN without images."""
        return self._measure(0)

    def before_eval(self, strategy: SupervisedTemplate) -> None:
        """Start a pool of images."""
        self.reset()

    def before_eval_exp(self, strategy: SupervisedTemplate) -> None:
        """Note where the experience's images begin."""
        self._start = len(self._shown)

    def after_eval_iteration(self, strategy: SupervisedTemplate) -> None:
        """Keep the vectors and the facts of one mini-batch."""
        output, target = strategy.mb_output.detach().cpu(), strategy.mb_y.detach().cpu()
        if output.ndim != 2 or target.shape != (len(output), output.shape[1] + 3):
            raise ValueError(
                "retrieval needs outputs of shape (batch, 3 d) and targets of shape "
                f"(batch, 3 d + 3), got {tuple(output.shape)} and {tuple(target.shape)}"
            )
        self._vectors.append(output)
        numbers = getattr(strategy.adapted_dataset, "fact_numbers", None)
        first = len(self._shown) - self._start  # samples come in the order of the dataset
        names: list[Any]
        if numbers is not None:
            names = [int(numbers[first + i]) for i in range(len(target))]
        else:
            names = [row.tobytes() for row in (target + 0.0).numpy()]  # −0.0 becomes 0.0
        for name, row in zip(names, target, strict=True):
            position = self._numbers.setdefault(name, len(self._targets))
            if position == len(self._targets):
                self._targets.append(row.clone())
            elif not torch.equal(self._targets[position], row):
                raise ValueError(f"fact {name!r} has different targets y in different samples")
            self._shown.append(position)

    def after_eval_exp(self, strategy: SupervisedTemplate) -> list[MetricValue]:
        """Give the value of one experience."""
        name = get_metric_name(f"{self}_Exp", strategy, add_experience=True)
        return [self._value(strategy, name, self._measure(self._start))]

    def after_eval(self, strategy: SupervisedTemplate) -> list[MetricValue]:
        """Give the value of all experiences, and forget their images."""
        name = get_metric_name(f"{self}_Stream", strategy, add_task=False)
        value = self._value(strategy, name, self.result())
        self.reset()  # or checkpoints would hold the vectors of all images
        return [value]

    def __str__(self) -> str:
        depth = "" if self.k is None else f"_at_{self.k}"
        return f"Retrieval_mAP{depth}_{self.variant}"

    def _value(self, strategy: SupervisedTemplate, name: str, value: float) -> MetricValue:
        return MetricValue(self, name, value, strategy.clock.train_iterations)

    def _measure(self, start: int) -> float:
        """Of the images from ``start`` on, and their facts."""
        shown = torch.tensor(self._shown[start:], dtype=torch.int64)
        if not len(shown):
            return float("nan")
        own, shown = torch.unique(shown, return_inverse=True)  # no fact of other experiences asks
        targets = torch.stack([self._targets[fact] for fact in own.tolist()])
        return fact_retrieval_map(
            torch.cat(self._vectors)[start:],
            targets[:, :-3],
            shown,
            masks=targets[:, -3:],
            variant=self.variant,
            k=self.k,
        )
