r"""What each parameter contributes to the fall of a task's loss along the way, for SI.

Eq. 3-5 of Zenke, Poole and Ganguli, *Continual Learning Through Synaptic Intelligence*, ICML 2017:

.. math:: \omega = -\sum_t g(t) \, \Delta\theta(t), \qquad
    \Omega = \frac{\max(0, \omega)}{(\theta_{end}-\theta_{start})^2 + \xi}

where g(t) is the gradient of the task's loss alone before step t, and Δθ(t) is how far the
parameter has moved in that step, by whatever moved it: momentum and penalty included.
"""

import torch
from torch import Tensor, nn

from avalanche_mas.importance import Importance
from avalanche_mas.importance.parameters import grow, named_parameters, wide_dtype


class PathIntegral:
    """ω of every trainable parameter along the training of one task.

    It needs no Avalanche. In a training loop of one's own::

        path = PathIntegral(model)
        ...
        task_loss.backward()
        path.before_step()
        penalty.add_gradient()
        optimizer.step()
        path.after_step()
        ...
        importance = path.importance(samples=len(data))

    Everything stays on the parameters' device, in float64 for float64 parameters and in float32
    for all others. Beyond ω and θ_start it holds two copies of the parameters.

    :param model: at the start of the task.
    """

    def __init__(self, model: nn.Module) -> None:
        self.omega: dict[str, Tensor] = {}
        """ω so far, by parameter name."""
        self.start: dict[str, Tensor] = {}
        """θ_start; for a parameter or a part of it that came later, its first value."""
        self.bind(model)

    @torch.no_grad()
    def bind(self, model: nn.Module) -> None:
        """Finds the parameters again after the model was wrapped, grew or replaced some.

        :param model: the model that will be trained next.
        :raises ValueError: if a parameter shrank or changed its number of dimensions.
        """
        self._parameters = {
            name: parameter
            for name, parameter in named_parameters(model).items()
            if parameter.requires_grad and parameter.is_floating_point()
        }
        for name, parameter in self._parameters.items():
            here = parameter.detach().to(wide_dtype(parameter), copy=True)
            omega = self.omega.get(name, torch.zeros_like(here))
            self.omega[name] = grow(omega, here.shape, name).to(here)
            if name in self.start:
                here[tuple(slice(size) for size in self.start[name].shape)] = self.start[name]
            self.start[name] = here
        # two copies to compute in: g, and θ before the step
        self._gradient = {name: torch.empty_like(self.start[name]) for name in self._parameters}
        self._before = {name: torch.empty_like(self.start[name]) for name in self._parameters}
        self._moving: list[str] = []

    @torch.no_grad()
    def before_step(self) -> None:
        """Keeps g and θ: after the backward pass, before anything is added to the gradients.

        A parameter without a gradient takes no part in this step.
        """
        gradients = {n: p.grad for n, p in self._parameters.items() if p.grad is not None}
        self._moving = list(gradients)
        if self._moving:
            torch._foreach_copy_(self._of(self._gradient), list(gradients.values()))
            torch._foreach_copy_(self._of(self._before), self._of(self._parameters))

    @torch.no_grad()
    def after_step(self) -> None:
        """ω ← ω − g Δθ, when the parameters are where the step has left them."""
        if self._moving:
            backwards = self._of(self._before)
            torch._foreach_sub_(backwards, self._of(self._parameters))  # −Δθ
            torch._foreach_addcmul_(self._of(self.omega), self._of(self._gradient), backwards)
        self._moving = []

    @torch.no_grad()
    def importance(self, xi: float = 0.1, samples: int = 0) -> Importance:
        """Ω of the task, Eq. 5, of the parameters as they are now.

        :param xi: ξ > 0, which bounds Ω where a parameter has hardly moved.
        :param samples: how many samples the path has seen, for the record.
        :return: Ω, with that number of samples.
        """
        omega = {}
        for name, parameter in self._parameters.items():
            moved = parameter.to(self.start[name]) - self.start[name]
            omega[name] = self.omega[name].clamp(min=0) / moved.square_().add_(xi)
        return Importance(omega, samples)

    def _of(self, tensors: dict[str, Tensor] | dict[str, nn.Parameter]) -> list[Tensor]:
        return [tensors[name] for name in self._moving]
