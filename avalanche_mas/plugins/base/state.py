"""What a plugin has learnt as tensors and plain values, and back."""

import copy
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_mas.importance import Importance
from avalanche_mas.importance.parameters import (
    canonical_name,
    check_growth,
    named_parameters,
    unwrap,
)
from avalanche_mas.penalty.quadratic import QuadraticPenalty
from avalanche_mas.plugins.base.arguments import described, options_of
from avalanche_mas.plugins.base.task_end import TaskEnd

State = dict[str, Any]
"""Strings → tensors, numbers, strings, None, and lists and dictionaries of these."""


class StatefulPlugin(SupervisedPlugin):  # type: ignore[misc]
    """A plugin with ``state_dict`` and ``load_state_dict``, to be used between tasks.

    A state is what was learnt, not how: options such as λ are those of the plugin that loads it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Avalanche warns of plugins that do not say they can be used by several processes."""
        super().__init_subclass__(**{"supports_distributed": True, **kwargs})

    def __init__(self) -> None:
        super().__init__()
        self._task = TaskEnd()
        self._model: nn.Module | None = None  # with which it has learnt what it knows, unwrapped

    def __repr__(self) -> str:
        options = (f"{name}={described(value)}" for name, value in options_of(self).items())
        return f"{type(self).__name__}({', '.join(options)})"

    def state_dict(self) -> State:
        """What the plugin has learnt from the tasks so far.

        It holds tensors and plain values only, so that ``torch.save`` writes it and ``torch.load``
        reads it back with ``weights_only=True``. As PyTorch's, it refers to the plugin's own
        tensors instead of copying them.

        :return: a dictionary for :meth:`load_state_dict`.
        :raises RuntimeError: in the middle of a task, also between the parts of an online stream's
            experience, where more is at work than a plugin's state; a checkpoint of the strategy
            holds that too, see :mod:`avalanche_mas.training.checkpoint`.
        """
        if self._task.open:
            raise RuntimeError(
                f"{type(self).__name__} is in the middle of a task: take its state_dict() before "
                "or after. Between the parts of an online stream's experience, save a checkpoint "
                "of the strategy instead (avalanche_mas.training.checkpoint.save_checkpoint)."
            )
        return {"plugin": self._kind(), **self._state()}

    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module | None = None) -> None:
        """Puts the plugin where :meth:`state_dict` was called, whatever it has learnt itself.

        Training goes on from there to the same bits, given the model, the optimizer and the random
        states of then. The tensors are copied.

        :param state: what :meth:`state_dict` of the same kind of plugin returned.
        :param model: the model that will be trained, with the heads that it had then. Where it is
            given, the state must fit it now; otherwise the next training finds out at its start,
            and drops parameters that do not exist any more with a warning.
        :raises ValueError: if keys are missing or unknown, if the state is of another method, or
            if it does not fit the model. Nothing has been changed then.
        """
        own = {"plugin", *self._state()}
        if not isinstance(state, Mapping) or state.get("plugin", self._kind()) != self._kind():
            found = state.get("plugin") if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(
                f"this is the state of {found}, which {self._kind()} cannot load: load it into a "
                "plugin of the same class and mode"
            )
        check_keys(state, own, f"the state of {self._kind()}")
        # A copy of the whole keeps tensors that share their memory together.
        try:
            attributes = self._attributes(copy.deepcopy(dict(state)), model)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"the state of {self._kind()} is damaged: {error!r}") from error
        known = None if model is None else unwrap(model)
        for name, value in {**attributes, "_task": TaskEnd(), "_model": known}.items():
            setattr(self, name, value)

    def _check_model(self, model: nn.Module) -> None:
        """Warns if what was learnt is another model's: one that shares no parameter with this."""
        model, known = unwrap(model), self._model
        if known is None or known is model or {*known.parameters()} & {*model.parameters()}:
            return
        warnings.warn(
            f"{type(self).__name__} has learnt its tasks with another model, and takes this "
            "one for it. Make a new plugin for a new model; for a copy of the old one, "
            "load_state_dict(plugin.state_dict(), model) says so.",
            stacklevel=3,
        )

    def _kind(self) -> str:
        """The method, and those options without which a state means something else."""
        return type(self).__name__

    @abstractmethod
    def _state(self) -> State:
        """The attributes that were learnt; always with the same keys."""

    @abstractmethod
    def _attributes(self, state: State, model: nn.Module | None) -> dict[str, Any]:
        """From :meth:`_state` to the attributes to be set; it changes nothing."""


def importance_state(importance: Importance | None) -> State | None:
    """An importance as plain values."""
    if importance is None:
        return None
    return {
        "omega": dict(importance),
        "samples": importance.samples,
        "standard_errors": importance.standard_errors,
        "fallbacks": importance.fallbacks,
    }


def loaded_importance(state: Any, model: nn.Module | None) -> Importance | None:
    """The importance of such a state.

    :raises ValueError: if it is none, or does not fit the model.
    """
    if state is None:
        return None
    check_keys(
        state, ("omega", "samples", "standard_errors", "fallbacks"), "the state's importance"
    )
    omega = tensors(state["omega"], "the state's importance")
    if model is not None:
        parameters = named_parameters(model)
        for name in omega:
            if name in parameters:
                check_growth(omega[name], parameters[name].shape, name)
    errors = {str(layer): float(error) for layer, error in state["standard_errors"].items()}
    fallbacks = {str(name): str(why) for name, why in state["fallbacks"].items()}
    return Importance(omega, state["samples"], standard_errors=errors, fallbacks=fallbacks)


def penalty_state(penalty: QuadraticPenalty | None) -> State | None:
    """A penalty as plain values, without its λ."""
    if penalty is None:
        return None
    return {"anchor": penalty.anchor, "omega": penalty.omega, "constant": penalty.constant}


def loaded_penalty(
    state: Any, lambda_reg: float, model: nn.Module | None
) -> QuadraticPenalty | None:
    """The penalty of such a state, bound to the model if there is one.

    :raises ValueError: if it is none, or does not fit the model.
    """
    if state is None:
        return None
    check_keys(state, ("anchor", "omega", "constant"), "the state's penalty")
    anchor = tensors(state["anchor"], "the state's anchor")
    omega = tensors(state["omega"], "the state's penalty")
    check_keys(omega, anchor, "the penalty's importance")
    for name, tensor in anchor.items():
        if omega[name].shape != tensor.shape:
            raise ValueError(
                f"the state's anchor of {name!r} has shape {tuple(tensor.shape)}, its importance "
                f"{tuple(omega[name].shape)}: the state is damaged"
            )
    penalty = QuadraticPenalty.restored(anchor, omega, lambda_reg, float(state["constant"]))
    if model is not None:
        check_fits({name: tensor.shape for name, tensor in anchor.items()}, model)
        penalty.bind(model)
    return penalty


def check_fits(shapes: Mapping[str, Sequence[int]], model: nn.Module) -> None:
    """Parameters and buffers may have grown since, but must be there.

    :param shapes: name → shape.
    :raises ValueError: unless it is so.
    """
    buffers = {canonical_name(model, name): buffer for name, buffer in model.named_buffers()}
    known: dict[str, Tensor] = {**buffers, **named_parameters(model)}
    for name, shape in shapes.items():
        if name not in known:
            raise ValueError(
                f"the state has a parameter {name!r} that the model lacks. Is it the state of "
                "another model, or do heads still have to be added to this one?"
            )
        check_growth(torch.empty(shape, device="meta"), known[name].shape, name)


def check_keys(value: Any, expected: Iterable[str], what: str) -> None:
    """:raises ValueError: unless ``value`` is a mapping with just these keys."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is a {type(value).__name__}, where a dictionary is expected")
    expected = set(expected)
    missing = sorted(map(str, expected - set(value)))
    unknown = sorted(map(str, set(value) - expected))
    if missing or unknown:
        raise ValueError(
            f"{what} does not fit: it lacks {missing or 'nothing'}, and has {unknown or 'nothing'} "
            "that is not known. Was it saved by another plugin or another version?"
        )


def tensors(value: Any, what: str) -> dict[str, Tensor]:
    """``value``, checked.

    :raises ValueError: unless it is a dictionary of tensors.
    """
    if isinstance(value, dict):
        wrong = [name for name, tensor in value.items() if not isinstance(tensor, Tensor)]
        if not wrong:
            return value
        raise ValueError(f"{what} holds {type(value[wrong[0]]).__name__} {wrong[0]!r}, no tensor")
    raise ValueError(f"{what} is a {type(value).__name__}, where tensors by name are expected")
