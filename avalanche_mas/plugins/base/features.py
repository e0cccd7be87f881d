"""The shared features F of a model: what goes into its classifier."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from torch import Tensor, nn

from avalanche_mas.importance.parameters import unwrap


def is_multi_task(model: nn.Module) -> bool:
    """Whether a model, wrapped or not, is called with task labels."""
    return isinstance(unwrap(model), MultiTaskModule)


def find_classifier(model: nn.Module, name: str | None = None) -> str:
    """The dotted name of the module whose input are the shared features.

    :param model: the model.
    :param name: what the user calls it; None: the one module that is Avalanche's
        ``MultiHeadClassifier`` or ``IncrementalClassifier``.
    :return: the name, for ``unwrap(model).get_submodule``.
    :raises ValueError: if there is no such module, or none that can be found by itself.
    """
    modules: dict[str, nn.Module] = dict(unwrap(model).named_modules())
    if name is not None:
        if name in modules:
            return name
        raise ValueError(
            f"the model has no module {name!r}. Name the classifier: its input are the shared "
            f"features. Candidates: {_candidates(modules)}"
        )
    kinds = (MultiHeadClassifier, IncrementalClassifier)
    found = [own for own, module in modules.items() if isinstance(module, kinds)]
    outer = [own for own in found if not any(own.startswith(f"{other}.") for other in found)]
    if len(outer) == 1:
        return outer[0]
    problem = f"has several classifiers ({', '.join(outer)})" if outer else "has no module of these"
    raise ValueError(
        "the classifier, whose input are the shared features, is found by itself where it is "
        f"Avalanche's MultiHeadClassifier or IncrementalClassifier; this model {problem}. "
        f"Pass classifier='...'. Candidates: {_candidates(modules)}"
    )


def _candidates(modules: dict[str, nn.Module]) -> str:
    names = [n for n, m in modules.items() if n and ("." not in n or isinstance(m, nn.Linear))]
    return ", ".join(names) or "none, as the model has no submodules"


class FeatureTap:
    """Catches what goes into a module, until it is closed.

    :param classifier: the module.
    """

    def __init__(self, classifier: nn.Module) -> None:
        self._caught: list[Tensor] = []
        self._handle = classifier.register_forward_pre_hook(self._catch, with_kwargs=True)

    def _catch(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._caught.append(args[0] if args else next(iter(kwargs.values())))

    def close(self) -> None:
        """Takes the hook away."""
        self._handle.remove()

    def features(self, task_labels: Tensor | None = None) -> Tensor:
        """What went into the module during one forward pass, in the order of the samples.

        :param task_labels: those of the samples. A ``MultiTaskModule`` may have split the batch by
            task, in ascending order.
        :raises RuntimeError: if the module was not called, or more often than that.
        """
        if len(self._caught) == 1:
            return self._caught[0]
        if task_labels is None or len(self._caught) != len(torch.unique(task_labels)):
            raise RuntimeError(
                f"the classifier was called {len(self._caught)} times in one forward pass instead "
                "of once, so the shared features are unknown. Pass classifier='...' to name the "
                "module whose input they are; in a model compiled as a whole it cannot be seen."
            )
        by_task = torch.argsort(task_labels, stable=True)
        return torch.cat(self._caught)[torch.argsort(by_task)]


def run(
    model: nn.Module, x: Any, task: int | None, classifier: str | None
) -> tuple[Any, Tensor | None]:
    """A forward pass of samples that all belong to one task.

    :param model: an unwrapped model.
    :param x: the model's input.
    :param task: the head to use, for a multi-task model.
    :param classifier: the classifier's name, or None if the features are not wanted.
    :return: the model's output, and the features.
    """
    tap = None if classifier is None else FeatureTap(model.get_submodule(classifier))
    try:
        output = model(x) if task is None else model(x, task)
    finally:
        if tap is not None:
            tap.close()
    return output, None if tap is None else tap.features()
