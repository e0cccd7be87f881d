"""What every method with a quadratic penalty shares: when to measure Ω, on what, and how to use it.

A method is a subclass that says how its importance is measured, and no more.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_mas.importance import Importance
from avalanche_mas.importance.batches import Forward
from avalanche_mas.importance.estimate import check_positive
from avalanche_mas.penalty import QuadraticPenalty, check_lambda
from avalanche_mas.plugins.streams import StreamSamples, evaluated
from avalanche_mas.step_size import check_proximal, supports_proximal

_BATCH_SIZE = 32  # Avalanche's own default of 1 would be slow for nothing

Streams = str | Sequence[str] | Callable[[Any], Any]
"""A stream's name, several names, or a function experience → dataset."""


class RegularizationPlugin(SupervisedPlugin):  # type: ignore[misc]
    """Measures importance after each experience and penalises changing what is important.

    During an experience the loss is L_task + (λ/2) Σ Ω (θ−θ*)². After it, Ω of the new task is
    measured and accumulated, and θ* becomes the present solution.

    :param lambda_reg: λ of Eq. 3, whose gradient is λΩ(θ−θ*).
    :param streams: on which data Ω is measured after experience i: the name of a stream of the
        experience's benchmark, whose experience i is used; several names, whose samples form one
        mean; or a function ``experience -> dataset``, which may be unlabelled. Evaluation
        transforms are used, labels are not read.
    :param accumulate: ``"sum"`` of the tasks' Ω (the paper), their running ``"mean"``, or a decay
        in (0, 1): Ω = decay·Ω_old + (1−decay)·Ω_new. With the latter two, a tensor that a task does
        not use keeps its Ω, see :meth:`Importance.add <avalanche_mas.Importance.add>`.
    :param step: ``"proximal"`` (stable for every λ; SGD, Adam, AdamW), ``"gradient"`` (as the
        paper's code; any optimizer), or ``"auto"``: proximal where possible.
    :param batch_size: samples per batch of the measurement; None for the strategy's
        ``eval_mb_size``, but at least 32. It does not change the result.
    :param num_workers: loader processes of the measurement.
    :param max_samples: use at most so many samples per experience and stream, a fixed random
        subset.
    :param initial: importance measured before the first experience, so that a pretrained network
        is protected from the start; see also :meth:`prime`.
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
        super().__init__()
        check_lambda(lambda_reg)
        if isinstance(accumulate, str):
            if accumulate not in ("sum", "mean"):
                raise ValueError(f"accumulate must be 'sum', 'mean' or a decay, got {accumulate!r}")
        elif not 0.0 < accumulate < 1.0:
            raise ValueError(f"accumulate as a decay must lie in (0, 1), got {accumulate!r}")
        if step not in ("auto", "proximal", "gradient"):
            raise ValueError(f"step must be 'auto', 'proximal' or 'gradient', got {step!r}")
        check_positive(batch_size=batch_size, max_samples=max_samples)
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {num_workers}")
        self.lambda_reg = lambda_reg
        self.accumulate = accumulate
        self.step = step
        self.batch_size = batch_size
        self.samples = StreamSamples(streams, num_workers, max_samples)
        self.initial = initial
        self.verbose = verbose
        self.importance: Importance | None = None
        """Ω accumulated so far; None before the first measurement."""
        self.penalty: QuadraticPenalty | None = None
        """The penalty around the last solution θ*; None before the first measurement."""
        self.tasks = 0
        """Measurements accumulated in :attr:`importance`."""
        self._parts = 0
        self._value: Tensor | None = None  # of the penalty at the present parameters, if known

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

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuses an optimizer for which the requested step is unknown."""
        if self.step == "proximal":
            check_proximal(strategy.optimizer)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Finds the data that will be measured, or fails before anything is trained."""
        self.samples.check(strategy.experience)
        self._protect_initially(strategy.model)
        self._value = None
        if self.penalty is None:
            return
        self.penalty.bind(strategy.model)
        if (
            not self._proximal(strategy)
            and (ratio := self.penalty.stiffness(strategy.optimizer)) > 1
        ):
            warnings.warn(
                f"the penalty's gradient will diverge: lr * lambda_reg * max(omega) is {ratio:.3g} "
                "times what this optimizer is stable for. Use step='proximal', a smaller "
                "lambda_reg or a smaller learning rate.",
                stacklevel=2,
            )

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Adds the penalty's value to the loss that metrics and loggers see.

        In the gradient form it also adds λΩ(θ−θ*) to the gradients.
        """
        if self.penalty is None or not self.lambda_reg:
            return
        if not self._proximal(strategy):
            self._value = self.penalty.add_gradient()
        elif self._value is None:
            self._value = self.penalty.value()
        strategy.loss = strategy.loss + self._value.to(strategy.loss)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        """Proximal form: pulls the parameters back towards θ*."""
        if self.penalty is not None and self._proximal(strategy):
            self._value = self.penalty.proximal_step(strategy.optimizer)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Measures Ω of the experience, accumulates it, and moves θ* to the present solution."""
        self._value = None
        experience = strategy.experience
        if not self._task_ends(experience):
            return
        batch_size = self.batch_size or max(_BATCH_SIZE, strategy.eval_mb_size)
        batches, forward = self.samples.batches(experience, strategy.model, batch_size)
        self._protect(strategy.model, self.measure(strategy.model, batches, forward, batch_size))

    def _task_ends(self, experience: Any) -> bool:
        """Whether no further part of an online stream's experience will come.

        Avalanche's own ``is_last_subexp`` stays False where the parts divide the experience evenly.
        """
        parts = getattr(experience, "sub_stream_length", 1)
        self._parts = 1 if getattr(experience, "is_first_subexp", True) else self._parts + 1
        return bool(self._parts == parts)

    def _protect_initially(self, model: nn.Module) -> None:
        if self.initial is not None and self.importance is None:
            self._protect(model, self.initial)
            self.initial = None  # it lives on in the sum

    def _protect(self, model: nn.Module, new: Importance) -> None:
        if self.importance is None:
            total = new
        elif self.accumulate == "sum":
            total = self.importance.add(new)
        else:
            mean = self.accumulate == "mean"
            decay = self.tasks / (self.tasks + 1) if mean else float(self.accumulate)
            total = self.importance.add(new, decay=decay)
        self.penalty = QuadraticPenalty(model, total, self.lambda_reg)
        self.importance = total
        self.tasks += 1

    def _proximal(self, strategy: Any) -> bool:
        return self.step == "proximal" or (
            self.step == "auto" and supports_proximal(strategy.optimizer)
        )
