r"""The penalty that protects important parameters, Eq. 3 of Aljundi et al., ECCV 2018:

.. math:: L(\theta) = L_{\text{task}}(\theta) +
    \frac{\lambda}{2} \sum_{i,j} \Omega_{ij} (\theta_{ij} - \theta^*_{ij})^2

It can act in two ways that have the same stationary points. As a **gradient**, λΩ(θ−θ*) is added
to the task's gradients, as the paper's code does. Ω spans many orders of magnitude, which makes
this term stiff: gradient descent diverges as soon as η λ max Ω exceeds about 2. As a **proximal
step**, the optimizer moves θ to θ′ by the task's gradient alone, and then

.. math:: \theta = \theta^* + \frac{\theta' - \theta^*}{1 + \eta\lambda\Omega},

the minimiser of (1/2η)(θ−θ′)² plus the penalty, which is stable for every λ. Here η is how far the
optimizer goes, per unit of a gradient that stays the same, see :func:`.step_size`; at rest
θ = θ′ − η·gradient, so that gradient + λΩ(θ−θ*) = 0, which is where Eq. 3 is stationary.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from avalanche_mas.importance.parameters import check_growth, grow, named_parameters, wide_dtype
from avalanche_mas.penalty.blocks import blocks
from avalanche_mas.penalty.step_hooks import (
    Arguments,
    Step,
    StepHooks,
    check_step,
    innermost,
    is_proximal,
    pull,
    push,
)
from avalanche_mas.penalty.step_size import check_proximal, step_size


class _Term(NamedTuple):
    """One parameter under the penalty."""

    parameter: nn.Parameter
    anchor: Tensor  # θ*
    omega: Tensor  # Ω, of the anchor's shape

    def part(self, tensor: Tensor) -> Tensor:
        """The part of the parameter, or of its gradient, that existed when it was anchored."""
        if tensor.shape == self.anchor.shape:
            return tensor.detach()
        return tensor.detach()[tuple(slice(size) for size in self.anchor.shape)]


class QuadraticPenalty:
    """(λ/2) Σ Ω (θ−θ*)² around the parameters θ* that a model has now (Eq. 3).

    It needs no Avalanche. In a training loop of one's own::

        penalty = QuadraticPenalty(model, importance, lambda_reg=1.0)   # after the first task
        with penalty.register(optimizer):
            ...  # train the next task as ever: the penalty acts in each step of the optimizer

    Only parameters that took part are touched: one that has no gradient in this step, such as
    another task's head, keeps its bits.

    :param model: its present parameters become θ*. Names are canonical, so that the model may be
        wrapped or unwrapped later on.
    :param importance: parameter name → Ω. A parameter without one is free.
    :param lambda_reg: λ, from 0 to 1e30.
    :param anchor: θ* of some parameters, if that is not where they are now; see
        :func:`~avalanche_mas.penalty.collapse.collapse`.
    :param constant: added to Σ Ω (θ−θ*)²: what is left of the sum where several penalties became
        one. It moves no parameter.
    :raises TypeError: if λ is no number.
    :raises ValueError: if λ is out of range, if Ω or θ* of a parameter does not fit its shape, is
        NaN or infinite, or Ω is negative, or if no name in ``importance`` belongs to the model.
    """

    def __init__(
        self,
        model: nn.Module,
        importance: Mapping[str, Tensor],
        lambda_reg: float = 1.0,
        *,
        anchor: Mapping[str, Tensor] | None = None,
        constant: float = 0.0,
    ) -> None:
        check_lambda(lambda_reg)
        parameters = named_parameters(model)
        if not importance:
            raise ValueError("the importance is empty: there is nothing that could be protected")
        if not set(importance) & set(parameters):
            raise ValueError(
                "none of the importance's parameters belongs to the model: it has "
                f"{next(iter(importance))!r}, the model has {next(iter(parameters), 'none')!r}. "
                "Was it measured on another model?"
            )
        self.lambda_reg = lambda_reg
        self.constant = constant
        self.anchor: dict[str, Tensor] = {}
        self.omega: dict[str, Tensor] = {}
        for name, omega in importance.items():
            if name in parameters:
                here = parameters[name].detach().clone()
                fitted = grow(omega, here.shape, name)
                if anchor is not None and name in anchor:
                    here = _replaced(here, anchor[name], name)
                check_numbers(name, here, fitted)
                self.anchor[name] = here
                # shared with the importance where possible: it is never written to
                self.omega[name] = _laid_out_like(here, fitted)
        self._terms: list[_Term] = []
        self.bind(model)

    @classmethod
    def restored(
        cls,
        anchor: dict[str, Tensor],
        omega: dict[str, Tensor],
        lambda_reg: float,
        constant: float,
    ) -> QuadraticPenalty:
        """A penalty of which all is known but its model, which :meth:`bind` brings.

        :param anchor: θ* of each parameter.
        :param omega: Ω of each, of the same shapes.
        :param lambda_reg: λ.
        :param constant: see above.
        :return: the penalty.
        """
        penalty = cls.__new__(cls)
        penalty.lambda_reg, penalty.constant = lambda_reg, constant
        penalty.anchor, penalty.omega, penalty._terms = anchor, omega, []
        return penalty

    def bind(self, model: nn.Module) -> None:
        """Finds the parameters again after the model was wrapped, grew or replaced some.

        Of a parameter that has grown, the old part is penalised. One that has disappeared is
        dropped, with a warning that names it.

        :param model: the model that will be trained next.
        :raises ValueError: if a parameter shrank or changed its number of dimensions.
        """
        parameters = named_parameters(model)
        if gone := [name for name in self.anchor if name not in parameters]:
            warnings.warn(
                f"these parameters have disappeared from the model and are no longer protected: "
                f"{', '.join(gone)}",
                stacklevel=2,
            )
            for name in gone:
                del self.anchor[name], self.omega[name]
        self._terms = []
        for name, anchor in self.anchor.items():
            parameter = parameters[name]
            check_growth(anchor, parameter.shape, name)
            self.anchor[name] = anchor.to(parameter.device, parameter.dtype)
            self.omega[name] = self.omega[name].to(parameter.device, wide_dtype(parameter))
            self._terms.append(_Term(parameter, self.anchor[name], self.omega[name]))

    def register(self, optimizer: Optimizer, step: Step = "auto") -> StepHooks:
        """From now on the penalty acts in every step of the optimizer, whoever takes it.

        It acts once for accumulated gradients, in each evaluation of a closure, and not in a step
        that a ``GradScaler`` skips; wrappers such as accelerate's and Lightning's are looked
        through. Gradients that are clipped before the step are the task's alone. ::

            with penalty.register(optimizer):     # or remove() what it returns
                ...

        After the model was wrapped, or has grown, :meth:`bind` comes first.

        :param optimizer: the one that trains the model.
        :param step: ``"proximal"``, ``"gradient"``, or ``"auto"``: proximal where possible, which
            is for SGD, Adam and AdamW.
        :return: the hooks, to be removed when the task has been learnt.
        :raises TypeError: for a proximal step of an optimizer whose step size is not known.
        :raises ValueError: for an unknown form, an optimizer that would diverge, or one that takes
            another penalty's proximal step already.
        """
        check_step(step, optimizer)
        if not is_proximal(step, optimizer):
            return StepHooks().register(optimizer, before=partial(_before_step, self))
        if any(_is_pull(hook) for hook in innermost(optimizer)._optimizer_step_post_hooks.values()):
            raise ValueError(
                "the optimizer takes a penalty's proximal step already, and one after the other "
                "does not lead to where their sum is stationary: remove() the first, add up the "
                "importances, or register this one with step='gradient'"
            )
        return StepHooks().register(optimizer, after=partial(_after_step, self))

    @torch.no_grad()
    def value(self) -> Tensor:
        """(λ/2) (Σ Ω (θ−θ*)² + constant) now, as a 0-d tensor without gradient.

        :return: a 0-d tensor, in the unit of the loss.
        """
        return self._value([self._energy(term) for term in self._terms])

    @torch.no_grad()
    def by_parameter(self) -> dict[str, Tensor]:
        """(λ/2) Σ Ω (θ−θ*)² of each parameter now, as 0-d tensors; the constant is in none.

        :return: parameter name → 0-d tensor.
        """
        terms = zip(self.anchor, self._terms, strict=True)
        return {name: 0.5 * self.lambda_reg * self._energy(term) for name, term in terms}

    @torch.no_grad()
    def add_gradient(self) -> Tensor:
        """Adds λΩ(θ−θ*) to the gradients that a backward pass has left, before the optimizer.

        :return: the penalty's :meth:`value`, for which nothing is read a second time.
        """
        energies = []
        for term in self._terms:
            if term.parameter.grad is None or self.lambda_reg == 0:
                energies.append(self._energy(term))
                continue
            gradient, theta = term.part(term.parameter.grad), term.part(term.parameter)
            tensors = gradient, theta, term.anchor, term.omega
            for (g, theta, anchor, omega), spare in blocks(*tensors):
                energies.append(_push(g, theta, anchor, omega, self.lambda_reg, *spare))
        return self._value(energies)

    @torch.no_grad()
    def proximal_step(self, optimizer: Optimizer) -> Tensor:
        """θ ← θ* + (θ−θ*)/(1+ηλΩ), after ``optimizer.step()``.

        :param optimizer: the one that has just stepped, for η.
        :return: the penalty's :meth:`value` after it, for which nothing is read a second time.
        :raises TypeError: if η is not known for this kind of optimizer.
        """
        optimizer = innermost(optimizer)
        check_proximal(optimizer)
        groups = _groups(optimizer)
        energies = []
        for term in self._terms:
            group = groups.get(id(term.parameter))
            if term.parameter.grad is None or group is None or self.lambda_reg == 0:
                energies.append(self._energy(term))
                continue
            eta, theta = step_size(optimizer, group, term.parameter), term.part(term.parameter)
            tensors = [theta, term.anchor, term.omega]
            if isinstance(eta, Tensor):
                tensors.append(term.part(eta))
            for (theta, anchor, omega, *steps), spare in blocks(*tensors):
                step = steps[0] if steps else eta
                energies.append(_pull(theta, anchor, omega, step * self.lambda_reg, *spare))
        return self._value(energies)

    def _energy(self, term: _Term) -> Tensor:
        """Σ Ω (θ−θ*)² of one parameter."""
        tensors = term.part(term.parameter), term.anchor, term.omega
        energies = [
            _energy(theta, anchor, omega, spare)
            for (theta, anchor, omega), (spare, _) in blocks(*tensors)
        ]
        return torch.stack(energies).sum()

    def _value(self, energies: list[Tensor]) -> Tensor:
        total = torch.zeros(())
        for energy in energies:
            total = total.to(energy) + energy
        return 0.5 * self.lambda_reg * (total + self.constant)

    def stiffness(self, optimizer: Optimizer) -> float:
        """How close :meth:`add_gradient` comes to divergence: above 1 it diverges.

        SGD with momentum m and dampening d is stable on a parabola of curvature h = λΩ up to
        lr·(1−d)·h = 2(1+m), with Nesterov's momentum up to lr·h = 2(1+m)/(1+2m).

        :param optimizer: SGD; for any other optimizer the answer is 0.
        :return: the largest ratio of lr·(1−d)·λΩ to its limit, over all parameters.
        """
        if not isinstance(optimizer, SGD):
            return 0.0
        groups = _groups(optimizer)
        worst = 0.0
        for term in self._terms:
            group = groups.get(id(term.parameter))
            if group is None or not term.omega.numel() or not term.parameter.requires_grad:
                continue
            momentum = group["momentum"]
            limit = 2 * (1 + momentum) / (1 + 2 * momentum if group["nesterov"] else 1)
            step = group["lr"] * ((1 - group["dampening"]) if momentum else 1)
            worst = max(worst, float(step * self.lambda_reg * term.omega.max() / limit))
        return worst


def _laid_out_like(here: Tensor, omega: Tensor) -> Tensor:
    """Ω with the strides of its parameter; a copy only where the order in memory differs."""
    pairs = zip(here.stride(), omega.stride(), here.shape, strict=True)
    alike = all(a == b or size == 1 for a, b, size in pairs)
    if alike and omega.dtype == wide_dtype(here) and omega.device == here.device:
        return omega.as_strided(here.shape, here.stride())
    return torch.empty_like(here, dtype=wide_dtype(here)).copy_(omega)


def _before_step(
    penalty: QuadraticPenalty, optimizer: Optimizer, args: Any, kwargs: Any
) -> Arguments | None:
    return push(penalty.add_gradient, optimizer, (args, kwargs))[0]


def _after_step(penalty: QuadraticPenalty, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    pull(penalty.proximal_step, optimizer)


def _is_pull(hook: Any) -> bool:
    return isinstance(hook, partial) and hook.func is _after_step


def _groups(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """``id(parameter)`` → the group that holds its learning rate and momentum."""
    return {id(p): group for group in optimizer.param_groups for p in group["params"]}


def check_numbers(name: str, anchor: Tensor, omega: Tensor) -> None:
    """:raises ValueError: unless θ* is finite, and Ω is and not negative."""
    for what, tensor, low in ("value", anchor, -math.inf), ("importance", omega, 0.0):
        if not tensor.numel():
            continue
        least, most = (float(end) for end in tensor.aminmax())  # of a NaN, both are NaN
        if not (math.isfinite(least) and math.isfinite(most) and least >= low):
            raise ValueError(
                f"the {what} of parameter {name!r} must be finite{' and not negative' * (low == 0)}"
                f", it goes from {least} to {most}. Has training diverged?"
            )


def check_lambda(lambda_reg: float) -> None:
    """Checks λ.

    :raises TypeError: unless it is a number.
    :raises ValueError: unless 0 ≤ λ ≤ 1e30: beyond, ηλ is infinite in float32 and 0·∞ NaN.
    """
    check_number(lambda_reg=lambda_reg)
    if not 0 <= lambda_reg <= 1e30:
        raise ValueError(f"lambda_reg must be a number from 0 to 1e30, got {lambda_reg!r}")


def check_number(**values: Any) -> None:
    """:raises TypeError: for something else than a real number, such as a tensor."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            hint = ": take its item()" if isinstance(value, Tensor) else ""
            raise TypeError(f"{name} must be a number, got {value!r}{hint}")


def _replaced(here: Tensor, anchor: Tensor, name: str) -> Tensor:
    if anchor.shape != here.shape:
        raise ValueError(
            f"the anchor of parameter {name!r} has shape {tuple(anchor.shape)}, the parameter has "
            f"{tuple(here.shape)}: is it the anchor of another model?"
        )
    return here.copy_(anchor)


def _push(
    gradient: Tensor,
    theta: Tensor,
    anchor: Tensor,
    omega: Tensor,
    scale: float,
    a: Tensor,
    b: Tensor,
) -> Tensor:
    """Adds λΩ(θ−θ*) to a gradient; Σ Ω (θ−θ*)². ``a`` and ``b`` are overwritten."""
    difference = torch.sub(theta.to(omega.dtype), anchor.to(omega.dtype), out=a)
    pull = torch.mul(difference, omega, out=b)
    gradient.add_(pull, alpha=scale)
    return torch.dot(difference.flatten(), pull.flatten())


def _pull(
    theta: Tensor, anchor: Tensor, omega: Tensor, strength: float | Tensor, a: Tensor, b: Tensor
) -> Tensor:
    """θ ← θ* + (θ−θ*)/(1+ηλΩ), in place; then Σ Ω (θ−θ*)². ``a`` is overwritten.

    Written as an interpolation from θ to θ* by Ω/(Ω + 1/ηλ): it leaves θ's bits alone where Ω is 0,
    gives exactly θ* where ηλΩ is so large that nothing else is left, and is never inf/inf.
    """
    if isinstance(strength, Tensor):
        weight = torch.reciprocal(strength, out=a).add_(omega)
    else:
        weight = torch.add(omega, 1 / strength if strength else math.inf, out=a)
    torch.div(omega, weight, out=weight)
    if theta.dtype == weight.dtype:
        theta.lerp_(anchor, weight)
    else:
        theta.copy_(torch.lerp(theta.to(weight.dtype), anchor.to(weight.dtype), weight))
    return _energy(theta, anchor, omega, a)


def _energy(theta: Tensor, anchor: Tensor, omega: Tensor, a: Tensor) -> Tensor:
    """Σ Ω (θ−θ*)². ``a`` is overwritten."""
    theta, anchor = theta.to(omega.dtype), anchor.to(omega.dtype)
    square = torch.ops.aten.mse_loss.out(theta, anchor, 0, out=a)  # (θ−θ*)², one operation
    return torch.dot(square.flatten(), omega.flatten())
