"""Elastic weight consolidation as an Avalanche plugin (Kirkpatrick et al., PNAS 2017)."""

import warnings
from typing import Any, Literal

from torch import Tensor, nn

from avalanche_mas.importance import Importance
from avalanche_mas.importance.batches import Forward
from avalanche_mas.penalty.collapse import collapse
from avalanche_mas.penalty.quadratic import QuadraticPenalty, check_number
from avalanche_mas.plugins.base.arguments import check_not_negative, warn_of_translation
from avalanche_mas.plugins.base.measured import MeasuredPlugin, Streams
from avalanche_mas.plugins.ewc.fisher import (
    NO_LABELS,
    Fisher,
    Likelihood,
    check_fisher,
    estimate_fisher,
    log_likelihood,
)


class EWCPlugin(MeasuredPlugin):
    """EWC: importance is the diagonal F of the Fisher information.

    The loss of task B after task A is L_B + Σ (λ/2) F (θ−θ_A)², Eq. 3 of the paper. F is exact per
    sample, see :mod:`.ewc.fisher`. By default it is what Fisher information means: the expectation
    over the model's own predictions, which reads no labels. It costs one backward pass for each
    class; with hundreds of classes, or a class for each pixel, ``fisher="sampled"`` or
    ``max_samples`` is cheaper. One draw for each sample has the same mean, but where a network has
    learnt its task well it depends on a few rare draws, so it is not the default. Many libraries
    take the labels of the data
    (``fisher="empirical"``). Avalanche's plugin squares the mean gradient of a batch, so that its F
    depends on the batch size: no option does that.

    Avalanche's and many others' penalty has no ½: their λ is half of this one.

    After several tasks, ``mode`` says what remains:

    - ``"separate"``: a penalty around each task's own solution, Σ_e (λ/2) F_e (θ−θ_e)², as in the
      paper. The sum is kept as one penalty, which is exact, see :mod:`.penalty.collapse`, so that
      neither memory nor time grows with the number of tasks.
    - ``"online"``: one penalty around the latest solution, with F ← γF + F_e (Schwarz et al.,
      *Progress & Compress*, ICML 2018). γ applies to every parameter, as there.

    :param lambda_reg: λ of Eq. 3.
    :param fisher: ``"expected"``, ``"sampled"`` or ``"empirical"``.
    :param likelihood: ``"categorical"``, or ``"gaussian"`` for regression, see
        :func:`~avalanche_mas.plugins.ewc.fisher.estimate_fisher`.
    :param mode: ``"separate"`` or ``"online"``.
    :param decay: γ in [0, 1], for ``mode="online"``.
    :param streams: on which data F is measured, see :class:`.MeasuredPlugin`.
    :param step: ``"auto"``, ``"proximal"`` or ``"gradient"``.
    :param forward: how a batch goes through the model, see :class:`.MeasuredPlugin`. With
        ``fisher="empirical"`` the labels could not be told from the inputs.
    :param batch_size: samples per batch of the measurement. It does not change the result.
    :param num_workers: loader processes of the measurement.
    :param max_samples: use at most so many samples per experience and stream.
    :param initial: importance measured before the first experience; see also :meth:`prime`.
    :param verbose: show a progress bar while measuring.
    :param ewc_lambda: Avalanche's λ; do not use it in new code, nor the two that follow.
    :param decay_factor: Avalanche's name for ``decay``.
    :param keep_importance_data: of Avalanche's; of no effect here.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        lambda_reg: float = 1.0,
        *,
        fisher: Fisher = "expected",
        likelihood: Likelihood = "categorical",
        mode: Literal["separate", "online"] = "separate",
        decay: float = 1.0,
        streams: Streams | None = "train",
        step: Literal["auto", "proximal", "gradient"] = "auto",
        forward: Forward | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        max_samples: int | None = None,
        initial: Importance | None = None,
        verbose: bool = False,
        ewc_lambda: float | None = None,
        decay_factor: float | None = None,
        keep_importance_data: bool = False,
    ) -> None:
        if ewc_lambda is not None:
            check_not_negative(ewc_lambda=ewc_lambda)
            if lambda_reg != 1.0:
                raise ValueError(f"give lambda_reg={lambda_reg} or ewc_lambda={ewc_lambda}")
            lambda_reg = 2 * ewc_lambda
            warn_of_translation(
                f"EWCPlugin(ewc_lambda={ewc_lambda})",
                f"lambda_reg={lambda_reg}, as its penalty has no 1/2. Its Fisher information is "
                "also too small, by a factor that depends on its batch size",
            )
        if decay_factor is not None:
            if decay != 1.0:
                raise ValueError(f"give decay={decay} or decay_factor={decay_factor}")
            decay = decay_factor
        super().__init__(
            lambda_reg,
            streams=streams,
            step=step,
            forward=forward,
            batch_size=batch_size,
            num_workers=num_workers,
            max_samples=max_samples,
            initial=initial,
            verbose=verbose,
        )
        check_fisher(fisher, likelihood)
        if forward is not None and fisher == "empirical":
            raise ValueError(
                "fisher='empirical' reads labels, and which part of a batch they are is not known "
                "where forward says how it goes through the model: use fisher='expected' or "
                "'sampled', which ask the model"
            )
        if mode not in ("separate", "online"):
            raise ValueError(f"mode must be 'separate' or 'online', got {mode!r}")
        check_number(decay=decay)
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must lie in [0, 1], got {decay!r}")
        if mode == "separate" and decay != 1.0 and decay_factor is None:
            raise ValueError(f"decay={decay!r} is for mode='online'; mode is 'separate'")
        self.fisher, self.likelihood = fisher, likelihood
        self.mode, self.decay = mode, decay

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Looks at a sample's labels, so that wrong ones are known before anything is trained."""
        first = [] if self.source is None else self._batches(strategy).first(1)
        for _, y, _ in first if self.forward is None else ():  # else it is not known which they are
            if y is None and self.fisher == "empirical":
                raise ValueError(NO_LABELS)
            if isinstance(y, Tensor) and y.is_floating_point() and self.likelihood != "gaussian":
                warnings.warn(
                    f"the targets are {y.dtype} numbers, but likelihood='categorical' reads the "
                    "model's output as scores of classes: for regression use "
                    "likelihood='gaussian'",
                    stacklevel=2,
                )
        super().before_training_exp(strategy, **kwargs)

    def measure(
        self, model: nn.Module, data: Any, forward: Forward | None, batch_size: int
    ) -> Importance:
        """F of ``data``; every measurement draws numbers of its own."""
        return estimate_fisher(
            model,
            data,
            fisher=self.fisher,
            likelihood=self.likelihood,
            forward=forward,
            batch_size=batch_size,
            num_workers=self.num_workers,
            seed=self.tasks + 10_007 * self.pieces,
            verbose=self.verbose,
        )

    def _measured(self, forward: Forward) -> Forward:
        return log_likelihood(forward, self.fisher, self.likelihood)

    def _check_deployed(self, model: nn.Module) -> None:
        if self.fisher == "empirical":
            raise ValueError(
                "fisher='empirical' reads labels, which observed samples have not: use "
                "fisher='expected' or 'sampled', which ask the model"
            )
        super()._check_deployed(model)

    def _kind(self) -> str:
        return f"{type(self).__name__}(mode={self.mode!r})"

    def consolidate(self, model: nn.Module, new: Importance) -> tuple[Importance, QuadraticPenalty]:
        """One penalty for all tasks, each around its own θ or all around the latest."""
        if self.importance is None or self.penalty is None:
            return super().consolidate(model, new)
        if self.mode == "online":
            total = _scaled(self.importance, self.decay).add(new)
            return total, QuadraticPenalty(model, total, self.lambda_reg)
        anchor, constant = collapse(self.penalty, model, new)
        total = self.importance.add(new)
        return total, QuadraticPenalty(
            model, total, self.lambda_reg, anchor=anchor, constant=constant
        )


def _scaled(importance: Importance, factor: float) -> Importance:
    return Importance(
        {name: factor * omega for name, omega in importance.items()},
        importance.samples,
        standard_errors={
            layer: factor * error for layer, error in importance.standard_errors.items()
        },
        fallbacks=importance.fallbacks,
    )
