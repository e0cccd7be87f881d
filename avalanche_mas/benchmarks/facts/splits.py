"""Facts → tasks: which facts are learned together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Task = tuple[int, ...]
"""The numbers of the facts of one task, in rising order."""


def random_split(n_facts: int, n_tasks: int, seed: int) -> list[Task]:
    """Deal facts out at random, as many to each task as can be.

    :param n_facts: number of facts.
    :param n_tasks: number of tasks.
    :param seed: draws them.
    :return: for each task the numbers of its facts.
    :raises ValueError: if there are fewer facts than tasks.
    """
    _require_enough(n_facts, n_tasks)
    order = np.random.default_rng(seed).permutation(n_facts)
    return [_task(part) for part in np.array_split(order, n_tasks)]


def cluster_split(embeddings: NDArray[np.floating[Any]], n_tasks: int, seed: int) -> list[Task]:
    """Group facts that are close to each other, by k-means on their embeddings.

    :param embeddings: (number of facts, 3d).
    :param n_tasks: number of tasks, which differ in size.
    :param seed: starts k-means, on which the order of the tasks depends as well.
    :return: for each task the numbers of its facts.
    :raises ValueError: if there are fewer different embeddings than tasks.
    """
    from sklearn.cluster import KMeans

    _require_enough(len(np.unique(embeddings, axis=0)), n_tasks)
    groups = KMeans(n_tasks, n_init=10, random_state=seed).fit_predict(embeddings)
    return [_task(np.flatnonzero(groups == group)) for group in range(n_tasks)]


def starting_with(tasks: Sequence[Task], facts: Sequence[int]) -> list[Task]:
    """Put the task that holds most of ``facts`` first; the others keep their order.

    :param tasks: for each task the numbers of its facts.
    :param facts: numbers of facts.
    :return: the same tasks in that order.
    """
    wanted = set(facts)
    first = max(range(len(tasks)), key=lambda task: len(wanted & set(tasks[task])))
    return [tasks[first], *tasks[:first], *tasks[first + 1 :]]


def _task(numbers: NDArray[np.intp]) -> Task:
    return tuple(sorted(numbers.tolist()))


def _require_enough(n_facts: int, n_tasks: int) -> None:
    if n_facts < n_tasks:
        raise ValueError(f"{n_facts} different facts cannot make up {n_tasks} tasks")
