"""What every method with a quadratic penalty shares: when Ω is taken, added up, and used.

A method is a subclass that says where its importance comes from, and no more.
"""

import warnings
from abc import abstractmethod
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from avalanche_mas.importance import Importance
from avalanche_mas.importance.parameters import named_parameters, unwrap
from avalanche_mas.penalty.quadratic import QuadraticPenalty, check_lambda, check_number
from avalanche_mas.penalty.step_hooks import (
    Arguments,
    Step,
    StepHooks,
    check_form,
    check_step,
    is_proximal,
    pull,
    push,
)
from avalanche_mas.plugins.base.state import (
    State,
    StatefulPlugin,
    importance_state,
    loaded_importance,
    loaded_penalty,
    penalty_state,
)


class RegularizationPlugin(StatefulPlugin):
    """Penalises changing what earlier experiences found important.

    During an experience the loss is L_task + (λ/2) Σ Ω (θ−θ*)². After it, Ω of the new task is
    accumulated, and θ* becomes the present solution.

    The penalty acts in every step of the strategy's optimizer and at no other time: once for
    gradients accumulated over several mini-batches, not in a step that a ``GradScaler`` skips, and
    in each evaluation of a closure, see :mod:`.penalty.step_hooks`.

    Several of these plugins on one strategy add up, as long as one of them at most takes the
    proximal step.

    :param lambda_reg: λ of Eq. 3, whose gradient is λΩ(θ−θ*).
    :param accumulate: ``"sum"`` of the tasks' Ω (the paper), their running ``"mean"``, or a decay
        in [0, 1): Ω = decay·Ω_old + (1−decay)·Ω_new; 0 measures anew, as the authors' code does in
        their adaptation test. With the latter two, a tensor that a task does
        not use keeps its Ω, see :meth:`Importance.add <avalanche_mas.Importance.add>`.
    :param step: ``"proximal"`` (stable for every λ; SGD, Adam, AdamW), ``"gradient"`` (as the
        paper's code; any optimizer), or ``"auto"``: proximal where possible.
    :param initial: importance measured before the first experience, so that a pretrained network
        is protected from the start.
    :raises TypeError: for an option of another type.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        lambda_reg: float = 1.0,
        *,
        accumulate: Literal["sum", "mean"] | float = "sum",
        step: Step = "auto",
        initial: Importance | None = None,
    ) -> None:
        super().__init__()
        check_lambda(lambda_reg)
        if isinstance(accumulate, str):
            if accumulate not in ("sum", "mean"):
                raise ValueError(f"accumulate must be 'sum', 'mean' or a decay, got {accumulate!r}")
        else:
            check_number(accumulate=accumulate)
            if not 0.0 <= accumulate < 1.0:
                raise ValueError(f"accumulate as a decay must lie in [0, 1), got {accumulate!r}")
        check_form(step)
        if initial is not None and not isinstance(initial, Importance):
            raise TypeError(
                f"initial must be an Importance, got a {type(initial).__name__}: make one of "
                "tensors by name with Importance(tensors, samples)"
            )
        self.lambda_reg = lambda_reg
        self.accumulate = accumulate
        self.step = step
        self.initial = initial
        self.importance: Importance | None = None
        """Ω accumulated so far; None before the first measurement."""
        self.penalty: QuadraticPenalty | None = None
        """The penalty around the last solution θ*; None before the first measurement."""
        self.tasks = 0
        """Measurements accumulated in :attr:`importance`."""
        self._value: Tensor | None = None  # of the penalty at the present parameters, if known
        self._hooks = StepHooks()
        self._warned = False

    @abstractmethod
    def importance_of_task(self, strategy: Any) -> Importance:
        """Ω of the experience that has just been learnt, by the method's own equation.

        :param strategy: the strategy, with its model at the task's solution.
        :return: Ω of every parameter to be protected, of the parameter's shape.
        """

    def consolidate(self, model: nn.Module, new: Importance) -> tuple[Importance, QuadraticPenalty]:
        """How a further task joins those before: here one Ω around one θ*, the latest solution.

        :param model: at the new task's solution.
        :param new: Ω of the new task.
        :return: Ω of all tasks, and the penalty from now on.
        """
        if self.importance is None:
            total = new
        elif self.accumulate == "sum":
            total = self.importance.add(new)
        else:
            mean = self.accumulate == "mean"
            decay = self.tasks / (self.tasks + 1) if mean else float(self.accumulate)
            total = self.importance.add(new, decay=decay)
        return total, QuadraticPenalty(model, total, self.lambda_reg)

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuses an optimizer for which the requested step is unknown, and a second such step."""
        self._hooks.remove()  # of a training that was broken off
        optimizer = strategy.optimizer
        if self.lambda_reg or self._proximal(optimizer):
            check_step(self.step, optimizer)
        penalties = [p for p in strategy.plugins if isinstance(p, RegularizationPlugin)]
        if sum(p is self for p in penalties) > 1:
            raise ValueError(f"the same {type(self).__name__} is twice among the plugins")
        proximal = [type(p).__name__ for p in penalties if p._proximal(optimizer)]
        if len(proximal) > 1:
            raise ValueError(
                f"{' and '.join(proximal)} would each take a proximal step, and one after the other"
                " does not lead to where their sum is stationary. Give step='gradient' to all but "
                "one; or, for one method on several streams, one plugin with several streams."
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Finds the parameters that are protected, which the model may have replaced or grown."""
        if not any(parameter.requires_grad for parameter in strategy.model.parameters()):
            raise ValueError("the model has no trainable parameters: there is nothing to protect")
        self._task.begin()
        self._check_model(strategy.model)
        self._protect_initially(strategy.model)
        self._value = None
        if self.penalty is None:
            return
        self.penalty.lambda_reg = self.lambda_reg  # which may have been set since
        self.penalty.bind(strategy.model)
        if (
            not self._proximal(strategy.optimizer)
            and (ratio := self.penalty.stiffness(strategy.optimizer)) > 1
        ):
            warnings.warn(
                f"the penalty's gradient will diverge: lr * lambda_reg * max(omega) is {ratio:.3g} "
                "times what this optimizer is stable for. Use step='proximal', a smaller "
                "lambda_reg or a smaller learning rate.",
                stacklevel=2,
            )

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Registers the penalty's hooks; the steps of a warm-up are over by then."""
        self._hooks.register(strategy.optimizer, before=self._before_step, after=self._after_step)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Proximal form: adds the penalty's value to the loss that metrics and loggers see."""
        if self._proximal(strategy.optimizer):
            self._add_value(strategy)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        """Gradient form: adds the penalty's value at the gradient, which it has come with."""
        if not self._proximal(strategy.optimizer):
            self._add_value(strategy)
            self._value = None

    def _add_value(self, strategy: Any) -> None:
        if self.penalty is not None and self.lambda_reg:
            if self._value is None:
                self._value = self.penalty.value()
            strategy.loss = strategy.loss + self._value.to(strategy.loss)

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        if self.penalty is None or not self.lambda_reg or self._proximal(optimizer):
            return None
        changed, self._value = push(self.penalty.add_gradient, optimizer, (args, kwargs))
        return changed

    def _after_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self.penalty is not None and self._proximal(optimizer):
            self._value = pull(self.penalty.proximal_step, optimizer)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Accumulates Ω of the experience, and moves θ* to the present solution."""
        self._hooks.remove()
        self._value = None
        if self._task.ends(strategy.experience):
            self._protect(strategy.model, self.importance_of_task(strategy))

    def _state(self) -> State:
        return {
            "tasks": self.tasks,
            "initial": importance_state(self.initial),
            "importance": importance_state(self.importance),
            "penalty": penalty_state(self.penalty),
        }

    def _attributes(self, state: State, model: nn.Module | None) -> dict[str, Any]:
        return {
            "tasks": int(state["tasks"]),
            "initial": loaded_importance(state["initial"], model),
            "importance": loaded_importance(state["importance"], model),
            "penalty": loaded_penalty(state["penalty"], self.lambda_reg, model),
            "_value": None,
        }

    def _protect_initially(self, model: nn.Module) -> None:
        if self.initial is not None and self.importance is None:
            self._protect(model, self.initial)
            if unknown := self.initial.keys() - named_parameters(model).keys():
                warnings.warn(
                    "initial has an importance of parameters that the model does not have, and "
                    f"which it cannot protect: {', '.join(sorted(unknown))}",
                    stacklevel=2,
                )
            self.initial = None  # it lives on in the sum

    def _protect(self, model: nn.Module, new: Importance) -> None:
        self.importance, self.penalty = self.consolidate(model, new)
        self.tasks += 1
        self._model = unwrap(model)

    def _warn_of_statistics(self, model: nn.Module) -> None:
        """Once: no penalty holds BatchNorm's running mean and variance."""
        modules = unwrap(model).named_modules()
        moving = [n for n, m in modules if m.training and _has_statistics(m)]
        if moving and self.lambda_reg and not self._warned:
            more = f" and {len(moving) - 3} more" if len(moving) > 3 else ""
            self._warned = True
            warnings.warn(
                f"the running statistics of {', '.join(map(repr, moving[:3]))}{more} are not "
                "parameters: training on a later task moves them, and no penalty holds them. Keep "
                "these layers in eval mode after the first task, or use GroupNorm or LayerNorm.",
                stacklevel=3,
            )

    def _proximal(self, optimizer: Optimizer) -> bool:
        return is_proximal(self.step, optimizer)


def _has_statistics(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None
