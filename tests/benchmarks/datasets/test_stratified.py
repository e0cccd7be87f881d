"""Exactly as many as asked for, each class by its share, and never all of a class."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avalanche_mas.benchmarks.stratified import stratified


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.data(), st.integers(0, 3))
def test_what_is_drawn(targets, data, seed):
    most = len(targets) - len(set(targets))
    n = data.draw(st.integers(0, most))
    drawn, kept = stratified(targets, n, seed)
    assert len(drawn) == n
    assert sorted(drawn + kept) == list(range(len(targets)))
    assert drawn == sorted(drawn)
    assert kept == sorted(kept)
    assert {targets[at] for at in kept} == set(targets)
    got, sizes = Counter(targets[at] for at in drawn), Counter(targets)
    if all(size * n / len(targets) <= size - 1 for size in sizes.values()):
        for label, size in sizes.items():
            assert abs(got[label] - size * n / len(targets)) < 1
    assert (drawn, kept) == stratified(targets, n, seed)


def test_largest_remainders():
    """Shares of 2.4, 0.9 and 1.7 samples: two, one and two."""
    targets = [0] * 24 + [1] * 9 + [2] * 17
    drawn, _ = stratified(targets, 5, seed=0)
    assert Counter(targets[at] for at in drawn) == {0: 2, 1: 1, 2: 2}


def test_the_draw_never_changes():
    """A selection that is known by its seed alone must be the same for everyone."""
    assert stratified([0] * 6 + [1] * 4, 5, seed=0)[0] == [1, 2, 5, 6, 9]
    assert stratified([0] * 6 + [1] * 4, 5, seed=1)[0] != [1, 2, 5, 6, 9]


@pytest.mark.parametrize("n", [-1, 3, 4])
def test_too_many(n):
    with pytest.raises(ValueError, match=f"{n} of 4 samples cannot be drawn: .*there are 2"):
        stratified([0, 0, 1, 1], n, seed=0)
