"""Head-only warm-up: before an experience, its new head alone is trained.

Li & Hoiem, *Learning without Forgetting* (2016), first freeze the shared and the old parameters and
train the new ones; the MAS paper does the same for its LwF.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_mas.importance.parameters import named_parameters, unwrap
from avalanche_mas.plugins.base.arguments import check_counts
from avalanche_mas.plugins.base.state import State, StatefulPlugin, check_fits


class HeadWarmupPlugin(StatefulPlugin):
    """Trains only the new parameters for some epochs before each experience but the first.

    New is what no earlier experience has trained or held frozen: heads that the model got for this
    experience, and the new units of a head that grew. Heads that an evaluation has created are new
    until they are trained. It can be combined with any method, whose penalty takes no part in it.

    :param epochs: epochs over the experience's data.
    :raises ValueError: if ``epochs`` is negative.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        check_counts(0, epochs=epochs)
        self.epochs = epochs
        self.known: dict[str, torch.Size] = {}
        """Parameters that are not new any more, and their shapes."""
        self._trained: set[nn.Parameter] = set()

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Warms up, once the model has been adapted to the experience."""
        self._task.begin()
        self._check_model(strategy.model)
        if self.known and self.epochs:
            warm_up(strategy, self.epochs, self.new_parameters(strategy.model))

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Notes which parameters are trained."""
        self._trained.update(p for p in strategy.model.parameters() if p.grad is not None)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """They are no longer new, nor is what was frozen."""
        for name, parameter in named_parameters(strategy.model).items():
            if parameter in self._trained or not parameter.requires_grad:
                self.known[name] = parameter.shape
        self._trained.clear()
        self._model = unwrap(strategy.model)
        self._task.ends(strategy.experience)

    def _state(self) -> State:
        return {"known": {name: list(shape) for name, shape in self.known.items()}}

    def _attributes(self, state: State, model: nn.Module | None) -> dict[str, Any]:
        known = {name: torch.Size(shape) for name, shape in state["known"].items()}
        if model is not None:
            check_fits(known, model)
        return {"known": known, "_trained": set()}

    def new_parameters(self, model: nn.Module) -> dict[str, torch.Size | None]:
        """Names of the new parameters; for one that grew, the shape of its old part.

        :param model: adapted to the present experience.
        :return: name → that shape, or None for one that is new as a whole.
        """
        new: dict[str, torch.Size | None] = {}
        for name, parameter in named_parameters(model).items():
            old = self.known.get(name)
            if not parameter.requires_grad or parameter.shape == old:
                continue
            grew = old is not None and _contains(parameter.shape, old)
            new[name] = old if grew else None
        return new


def _contains(shape: torch.Size, old: torch.Size) -> bool:
    return len(shape) == len(old) and all(now >= then for now, then in zip(shape, old, strict=True))


def warm_up(strategy: Any, epochs: int, new: Mapping[str, torch.Size | None]) -> None:
    """Trains the new parameters alone, with the strategy's own data, loss and optimizer.

    Everything else keeps its bits: parameters, BatchNorm statistics (modules that are not new are
    in eval mode) and the optimizer's state. Afterwards, also after an exception, ``requires_grad``
    and modes are as they were. No plugin is called: no penalty, no metrics, no schedules.

    :param strategy: an Avalanche strategy inside ``before_training_exp``.
    :param epochs: how often its data loader is read.
    :param new: names of the new parameters, and for one that grew the shape of its old part, whose
        values stay. Where none of them takes part in the loss, nothing is trained.
    """
    parameters = named_parameters(strategy.model)
    grown = []
    for name, shape in new.items():
        if shape is not None:
            old = tuple(slice(size) for size in shape)
            grown.append((parameters[name], old, parameters[name].detach()[old].clone()))
    with _only(strategy, {parameters[name] for name in new}):
        for _ in range(epochs if new else 0):
            for strategy.mbatch in strategy.dataloader:  # noqa: B020, as in Avalanche's loop
                if not _step(strategy, grown):
                    return


def _step(strategy: Any, grown: list[tuple[nn.Parameter, tuple[slice, ...], Tensor]]) -> bool:
    """One iteration as in Avalanche's loop; False if there is nothing to train."""
    strategy._unpack_minibatch()
    strategy.optimizer.zero_grad()
    strategy.loss = strategy._make_empty_loss()
    strategy.mb_output = strategy.forward()
    strategy.loss += strategy.criterion()
    if not strategy.loss.requires_grad:
        return False
    strategy.backward()
    for parameter, old, _ in grown:
        if parameter.grad is not None:
            parameter.grad[old] = 0
    strategy.optimizer_step()
    with torch.no_grad():
        for parameter, old, values in grown:
            parameter[old] = values  # weight decay and momentum would move it
    return True


@contextmanager
def _only(strategy: Any, new: set[nn.Parameter]) -> Iterator[None]:
    """Inside, only ``new`` can be trained, and modules of other parameters are in eval mode."""
    model = strategy.model
    modes = {module: module.training for module in model.modules()}
    frozen = [p for p in model.parameters() if p.requires_grad and p not in new]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        model.eval()
        for module in list(modes):
            own = set(module.parameters())
            if own and own <= new:  # with the dropout inside it
                for inner in module.modules():
                    inner.training = modes[inner]
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for module, mode in modes.items():
            module.training = mode
        strategy.optimizer.zero_grad()
        strategy.mbatch, strategy.mb_output = None, None
        strategy.loss = strategy._make_empty_loss()
