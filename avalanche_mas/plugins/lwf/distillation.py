"""Knowledge distillation (Li & Hoiem, *Learning without Forgetting*, 2016): Eq. 2-4."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Units = dict[int | None, list[int]]
"""Head → its output units that tasks have used: by task label, or None where there is one head."""


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    r"""How far a head's outputs are from the recorded ones.

    .. math:: L_{\text{old}} = -\sum_c y'_c \log \hat y'_c, \qquad
        y'_c = \frac{y_c^{1/T}}{\sum_j y_j^{1/T}}, \quad
        \hat y'_c = \frac{\hat y_c^{1/T}}{\sum_j \hat y_j^{1/T}}

    (Eq. 2-4), for probabilities y, ŷ = softmax(scores), so that y' = softmax(scores / T). There is
    no factor T², and the teacher's entropy is part of the value but not of the gradient.

    :param student: scores of the model that is trained, of shape (samples, classes).
    :param teacher: scores of the old model, of the same shape.
    :param temperature: T.
    :return: the mean over the samples, 0-d.
    """
    return F.cross_entropy(student / temperature, torch.softmax(teacher / temperature, dim=1))


def scores_of_old_tasks(
    units: Mapping[int | None, list[int]],
    output: Any,
    features: Tensor | None,
    classifier: nn.Module | None,
) -> dict[str, Tensor]:
    """The scores that old tasks gave to their classes, and no others, for a mini-batch.

    Units that no old task used are left out, so neither the padding of unequal heads nor masked
    units of -1000 take part in a softmax.

    :param units: the heads, and the units of each.
    :param output: what the model returned.
    :param features: what went into the classifier; only needed for several heads.
    :param classifier: the module of all heads, called with features and a task label.
    :return: for each head a name and scores of shape (samples, units).
    :raises TypeError: if scores are no tensor.
    :raises ValueError: if they are not of shape (samples, classes), or have too few classes.
    """
    scores = {}
    for task, chosen in units.items():
        several = task is not None and classifier is not None
        head = classifier(features, task) if several else output  # type: ignore[misc]
        if not isinstance(head, Tensor):
            raise TypeError(
                f"distillation compares class scores, but the model returned a "
                f"{type(head).__name__} instead of a tensor of shape (samples, classes)"
            )
        if head.dim() != 2 or head.shape[1] <= max(chosen):
            raise ValueError(
                f"distillation compares class scores of shape (samples, classes) with class "
                f"{max(chosen)} among them, but the model returned shape {tuple(head.shape)}"
            )
        scores["head" if task is None else f"head {task}"] = head[:, chosen]
    return scores


def with_units(
    units: Mapping[int | None, list[int]], task: int | None, new: Iterable[int]
) -> Units:
    """``units`` and those that a task has used, as a new mapping."""
    both = sorted({*units.get(task, ()), *new})
    return {**units, task: both} if both else dict(units)


def checked_units(units: Any) -> Units:
    """``units`` as they were saved.

    :raises ValueError: unless they are lists of whole numbers by task label or None.
    """
    if isinstance(units, dict) and all(
        (head is None or isinstance(head, int))
        and isinstance(chosen, list)
        and chosen
        and all(isinstance(unit, int) and unit >= 0 for unit in chosen)
        for head, chosen in units.items()
    ):
        return units
    raise ValueError(f"the state's units are no lists of classes by head: {units!r}")


def classes_of(experience: Any) -> list[int] | None:
    """The classes of an experience, or None if nothing tells them."""
    classes = getattr(experience, "classes_in_this_experience", None)
    if classes is None:
        classes = getattr(getattr(experience.dataset, "targets", None), "uniques", None)
    try:
        return None if classes is None else sorted(operator.index(label) for label in classes)
    except TypeError:  # numbers to be predicted
        return None
