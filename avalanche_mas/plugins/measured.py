"""What the methods share whose importance is measured on data: on which data, and when."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from avalanche_mas.importance import Importance
from avalanche_mas.importance.batches import Forward
from avalanche_mas.importance.estimate import check_positive
from avalanche_mas.plugins.regularization import RegularizationPlugin
from avalanche_mas.plugins.streams import StreamSamples, evaluated, measuring_batch_size

Streams = str | Sequence[str] | Callable[[Any], Any]
"""A stream's name, several names, or a function experience → dataset."""


class MeasuredPlugin(RegularizationPlugin):
    """Measures importance after each experience on data of the user's choice.

    :param lambda_reg: λ of Eq. 3.
    :param streams: on which data Ω is measured after experience i: the name of a stream of the
        experience's benchmark, whose experience i is used; several names, whose samples form one
        mean; or a function ``experience -> dataset``, which may be unlabelled where the method
        reads no labels. Evaluation transforms are used.
    :param accumulate: ``"sum"``, ``"mean"`` or a decay, see :class:`.RegularizationPlugin`.
    :param step: ``"auto"``, ``"proximal"`` or ``"gradient"``.
    :param batch_size: samples per batch of the measurement; None for the strategy's
        ``eval_mb_size``, but at least 32. It does not change the result.
    :param num_workers: loader processes of the measurement.
    :param max_samples: use at most so many samples per experience and stream, a fixed random
        subset.
    :param initial: importance measured before the first experience; see also :meth:`prime`.
    :param verbose: show a progress bar while measuring.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        lambda_reg: float = 1.0,
        *,
        streams: Streams = "train",
        accumulate: Literal["sum", "mean"] | float = "sum",
        step: Literal["auto", "proximal", "gradient"] = "auto",
        batch_size: int | None = None,
        num_workers: int = 0,
        max_samples: int | None = None,
        initial: Importance | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(lambda_reg, accumulate=accumulate, step=step, initial=initial)
        check_positive(batch_size=batch_size, max_samples=max_samples)
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {num_workers}")
        self.batch_size = batch_size
        self.samples = StreamSamples(streams, num_workers, max_samples)
        self.verbose = verbose

    @abstractmethod
    def measure(
        self, model: nn.Module, data: Any, forward: Forward | None, batch_size: int
    ) -> Importance:
        """Ω of ``data``, by the method's own equation."""

    def prime(
        self,
        model: nn.Module,
        data: Any,
        *,
        forward: Forward | None = None,
        batch_size: int = 64,
    ) -> Importance:
        """Measures Ω on ``data`` now and protects the model's present parameters.

        For a pretrained network before its first experience, or for data that no stream holds.

        :param model: the model that the strategy will train.
        :param data: as for :func:`~avalanche_mas.estimate_importance`.
        :param forward: how a batch goes through the model, if not ``model(x)``.
        :param batch_size: samples per batch where ``data`` is a dataset.
        :return: Ω of ``data`` alone.
        """
        self._protect_initially(model)
        data = evaluated(data)
        new = self.measure(model, data, forward, self.batch_size or batch_size)
        self._protect(model, new)
        return new

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Finds the data that will be measured, or fails before anything is trained."""
        self.samples.check(strategy.experience)
        super().before_training_exp(strategy, **kwargs)

    def importance_of_task(self, strategy: Any) -> Importance:
        """Ω of the experience's data in the chosen streams."""
        model, batch_size = (
            strategy.model,
            measuring_batch_size(self.batch_size, strategy),
        )
        batches, forward = self.samples.batches(strategy.experience, model, batch_size)
        return self.measure(model, batches, forward, batch_size)
