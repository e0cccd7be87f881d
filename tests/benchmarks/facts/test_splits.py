"""Facts → tasks: disjoint, complete, and the same every time."""

import numpy as np
import pytest

from avalanche_mas.benchmarks.facts import cluster_split, random_split, starting_with


def blobs(seed=0):
    """Four groups of 5, 6, 7 and 8 points, mixed."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(4), (5, 6, 7, 8)))
    return 10.0 * rng.standard_normal((4, 12))[group] + rng.standard_normal((26, 12)), group


@pytest.mark.parametrize(("facts", "tasks"), [(186, 4), (186, 2), (5, 4), (51, 4)])
def test_random(facts, tasks):
    split = random_split(facts, tasks, seed=0)
    assert sorted(sum(split, ())) == list(range(facts))
    sizes = [len(task) for task in split]
    assert max(sizes) - min(sizes) <= 1
    assert split == random_split(facts, tasks, seed=0)
    assert split != random_split(facts, tasks, seed=1)


def test_clusters():
    embeddings, group = blobs()
    split = cluster_split(embeddings, 4, seed=0)
    assert {frozenset(task) for task in split} == {
        frozenset(np.flatnonzero(group == g).tolist()) for g in range(4)
    }
    assert split == cluster_split(embeddings, 4, seed=0)
    assert len({tuple(cluster_split(embeddings, 4, seed=s)) for s in range(6)}) > 1  # the order


def test_too_few_facts():
    with pytest.raises(ValueError, match="3 different facts cannot make up 4 tasks"):
        random_split(3, 4, 0)
    with pytest.raises(ValueError, match="2 different facts"):
        cluster_split(np.repeat(np.eye(2), 3, axis=0), 4, 0)


def test_starting_with():
    tasks = [(0, 1), (2, 3), (4, 5, 6)]
    assert starting_with(tasks, [4, 6, 2]) == [(4, 5, 6), (0, 1), (2, 3)]
    assert starting_with(tasks, [0]) == tasks
