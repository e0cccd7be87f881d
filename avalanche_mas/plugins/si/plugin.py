"""Synaptic intelligence as an Avalanche plugin (Zenke, Poole and Ganguli, ICML 2017)."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from avalanche_mas.importance import Importance
from avalanche_mas.importance.batches import batch_size_of
from avalanche_mas.importance.team import Team
from avalanche_mas.penalty.step_hooks import StepHooks, is_skipped, unscale
from avalanche_mas.plugins.base.arguments import (
    check_not_negative,
    check_positive,
    warn_of_translation,
)
from avalanche_mas.plugins.base.regularization import RegularizationPlugin
from avalanche_mas.plugins.base.state import State
from avalanche_mas.plugins.si.path_integral import PathIntegral


class SIPlugin(RegularizationPlugin):
    """SI: importance is what a parameter contributed to the fall of the loss, per distance.

    Measured during training, Eq. 3-5 of the paper, see :mod:`.si.path_integral`: the gradient is
    the task loss's alone, without the penalty; the step is the whole one, with momentum and with
    the penalty's pull. So there is nothing to measure after training, and no
    importance of a network that was not trained here; ``initial`` takes one from elsewhere.

    The paper's penalty is c Σ Ω (θ̃−θ)², Eq. 4, so that **λ = 2c**. It uses c = 0.1 and ξ = 0.1 on
    permuted MNIST. Each task's importance is cut off at 0 before it is added; the authors' code
    cuts off the sum.

    :param lambda_reg: λ of (λ/2) Σ Ω (θ−θ*)², twice the paper's c.
    :param xi: ξ of Eq. 5, in units of θ²: the damping that bounds the importance of parameters
        which hardly moved.
    :param accumulate: ``"sum"`` (the paper), ``"mean"`` or a decay, see
        :class:`.RegularizationPlugin`.
    :param step: ``"auto"``, ``"proximal"`` or ``"gradient"``.
    :param initial: importance known before the first experience.
    :param si_lambda: Avalanche's name for λ, a single one; set ``plugin.lambda_reg`` between
        experiences to change it. Do not use it in new code, nor the three that follow.
    :param eps: Avalanche's name for ``xi``.
    :param excluded_parameters: of Avalanche's; freeze parameters by ``requires_grad`` instead.
    :param device: of Avalanche's; Ω lies where the model is.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        lambda_reg: float = 1.0,
        *,
        xi: float = 0.1,
        accumulate: Literal["sum", "mean"] | float = "sum",
        step: Literal["auto", "proximal", "gradient"] = "auto",
        initial: Importance | None = None,
        si_lambda: float | None = None,
        eps: float | None = None,
        excluded_parameters: Sequence[str] | None = None,
        device: Any = None,
    ) -> None:
        if excluded_parameters:
            raise ValueError(
                f"SIPlugin protects all parameters that are trained, {list(excluded_parameters)} "
                "too: leave excluded_parameters out"
            )
        if si_lambda is not None:
            check_not_negative(si_lambda=si_lambda)
            if lambda_reg != 1.0:
                raise ValueError(f"give lambda_reg={lambda_reg} or si_lambda={si_lambda}")
            lambda_reg, xi = si_lambda, 1e-7 if eps is None else eps
            warn_of_translation(
                f"SIPlugin(si_lambda={si_lambda})",
                f"lambda_reg={lambda_reg} and xi={xi}. Its importance is cut off at 0.001, this "
                "one is not: it protects far more strongly. The paper's xi is 0.1",
            )
        elif eps is not None:
            xi = eps
        super().__init__(lambda_reg, accumulate=accumulate, step=step, initial=initial)
        check_positive(xi=xi)
        self.xi = xi
        self.path: PathIntegral | None = None
        """ω of the experience in training; None between experiences."""
        self._seen = 0  # samples along the path
        self._recording = StepHooks()
        self._stepped = False  # whether a step has been taken that is not in ω yet

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Starts a new path, or goes on with it in the next part of an online stream."""
        self._recording.remove()
        self._warn_of_statistics(strategy.model)
        super().before_training_exp(strategy, **kwargs)
        if self.path is None or getattr(strategy.experience, "is_first_subexp", True):
            self.path, self._seen = PathIntegral(strategy.model), 0
        else:
            self.path.bind(strategy.model)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Has gradients recorded before any penalty, which come with the first iteration, acts."""
        self._recording.register(strategy.optimizer, before=self._record)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Adds the step to ω, after all penalties have pulled the parameters back."""
        self._end_step()
        self._seen += batch_size_of(strategy.mbatch)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Accumulates Ω of the path, and moves θ* to the present solution."""
        self._recording.remove()
        super().after_training_exp(strategy, **kwargs)

    def _record(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Keeps the task's own gradient."""
        if self.path is not None:
            self._end_step()  # of an earlier step in the same iteration
            unscale(optimizer)
            self.path.before_step()

    def _after_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super()._after_step(optimizer, args, kwargs)
        self._stepped = not is_skipped(optimizer)

    def _end_step(self) -> None:
        if self.path is not None and self._stepped:
            self.path.after_step()
        self._stepped = False

    def importance_of_task(self, strategy: Any) -> Importance:
        """Ω of the path that has come to its end."""
        if self.path is None:
            raise RuntimeError("no path was followed: SIPlugin must be there before training")
        samples = sum(Team.of("split").all_gather(self._seen))
        importance = self.path.importance(self.xi, samples)
        self.path = None
        return importance

    def _attributes(self, state: State, model: nn.Module | None) -> dict[str, Any]:
        return {**super()._attributes(state, model), "path": None}
