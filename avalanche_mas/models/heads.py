"""One head per task, each with as many outputs as its task has classes."""

from typing import Any

import torch
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from torch import Tensor, nn
from torch.nn import functional as F


class TaskHeads(MultiHeadClassifier):  # type: ignore[misc]
    """A linear layer for each task, made when the task comes.

    As Avalanche's ``MultiHeadClassifier``, but logits are those of the task's own classes and no
    others. Avalanche pads all outputs to the largest head: with zeros, which enter the loss as
    logits like any other, or with -1000, which enters ‖F‖².

    Classes count from zero in each task: a head has a unit for every label up to the highest.

    :param in_features: numbers in a feature vector.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features, initial_out_features=1, masking=False)
        # Avalanche's first head exists before it is known which task is first, and how large it is.
        self.classifiers = nn.ModuleDict()
        del self.active_units_T0
        self.max_class_label = 0
        # Goes where the model goes, so that new heads have its device and dtype.
        self.register_buffer("_like", torch.empty(0), persistent=False)

    def adaptation(self, experience: Any) -> None:
        """Makes heads for tasks that are new, and adds units for classes that are.

        Strategies call this before they train or evaluate an experience. Units keep their weights.

        :param experience: one with task labels. Where it has several, the labels of its dataset
            tell which class is in which task.
        :raises ValueError: if task labels or classes are missing.
        """
        heads: dict[str, Any] = dict(self.classifiers.items())
        for task, units in units_of_tasks(experience).items():
            head = heads.get(str(task))
            if head is None or head.out_features < units:
                self.classifiers[str(task)] = self._head(units, head)
        MultiTaskModule.adaptation(self, experience)  # notes which tasks have been trained

    def forward(self, x: Tensor, task_labels: Tensor | int | None) -> Any:
        """The logits of each sample's own head.

        :param x: features, shape (B, in_features).
        :param task_labels: one for each sample, or one for all; None for all heads.
        :return: shape (B, n), where n is the number of classes of the task. In a batch of several
            tasks n is that of the largest of them, and logits of classes that a sample's task does
            not have are -∞: their probability is 0, so a cross-entropy and its gradient are those
            of the sample's own head. With None a dictionary from each task that was trained to
            its logits.
        :raises ValueError: for a task that has no head.
        """
        if task_labels is None or isinstance(task_labels, int):
            return super().forward(x, task_labels)
        tasks, sizes = torch.unique(task_labels, return_counts=True)
        if len(tasks) == 1:
            return self.forward_single_task(x, int(tasks))
        if not len(tasks):  # no samples, which are as wide as those of the largest head
            heads: dict[str, Any] = dict(self.classifiers.items())
            largest = max(heads, key=lambda task: heads[task].out_features)
            return self.forward_single_task(x, int(largest))
        order = torch.argsort(task_labels, stable=True)
        parts = zip(torch.split(x[order], sizes.tolist()), tasks.tolist(), strict=True)
        logits = [self.forward_single_task(part, task) for part, task in parts]
        width = max(part.shape[1] for part in logits)
        padded = [F.pad(p, (0, width - p.shape[1]), value=-torch.inf) for p in logits]
        return torch.cat(padded)[torch.argsort(order)]

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """The logits of one head.

        :param x: features, shape (B, in_features).
        :param task_label: which.
        :return: shape (B, n), n the number of the task's classes.
        :raises ValueError: for a task that has no head.
        """
        if str(task_label) not in self.classifiers:
            raise ValueError(
                f"task {task_label} has no head, there are heads for "
                f"{', '.join(self.classifiers) or 'no task'}: a head is made when a strategy "
                "trains or evaluates an experience of its task, or by adaptation(experience)"
            )
        logits: Tensor = self.classifiers[str(task_label)](x)
        return logits

    def _head(self, units: int, old: nn.Linear | None) -> nn.Linear:
        like = self._like
        new = nn.Linear(self.in_features, units, device=like.device, dtype=like.dtype)
        if old is not None:
            with torch.no_grad():
                new.weight[: old.out_features] = old.weight
                new.bias[: old.out_features] = old.bias
        return new


def units_of_tasks(experience: Any) -> dict[int, int]:
    """How many outputs the tasks of an experience need.

    :param experience: one with task labels and classes.
    :return: task label → highest class label + 1.
    :raises ValueError: if task labels or classes are missing.
    """
    for name in ("task_labels", "classes_in_this_experience"):
        if not hasattr(experience, name):
            raise ValueError(
                f"the experience has no {name}, so it is not known which heads it needs: "
                "Avalanche's with_task_labels and with_classes_timeline add them to a benchmark"
            )
    tasks = {int(task) for task in experience.task_labels}
    if len(tasks) == 1:
        return {tasks.pop(): int(max(experience.classes_in_this_experience)) + 1}
    labels = experience.dataset.task_set
    return {task: int(max(labels[task].targets.uniques)) + 1 for task in sorted(tasks)}
