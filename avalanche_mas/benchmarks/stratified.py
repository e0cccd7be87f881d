"""Draws samples from every class in proportion to its size."""

from collections.abc import Sequence

import numpy as np


def stratified(targets: Sequence[int], n: int, seed: int) -> tuple[list[int], list[int]]:
    """Draws exactly ``n`` samples, class by class, and keeps at least one of each class back.

    A class of which a share s of the samples is due gives s of them rounded down; the classes with
    the largest remainders give one more, until there are ``n``.

    The draw uses NumPy's ``RandomState``, whose numbers are promised never to change: a selection
    that is published by its seed is the same on every machine and in every later version.

    :param targets: the class of each sample.
    :param n: how many samples to draw.
    :param seed: another seed draws others.
    :return: the positions drawn, and those kept, both in ascending order.
    :raises ValueError: if fewer than ``n`` can be drawn with one of each class kept.
    """
    labels = np.asarray(targets, dtype=np.int64)
    classes, sizes = np.unique(labels, return_counts=True)
    most = int(np.sum(sizes - 1))
    if not 0 <= n <= most:
        raise ValueError(
            f"{n} of {len(labels)} samples cannot be drawn: with one of each of the "
            f"{len(classes)} classes kept, there are {most}"
        )
    # Less than a class's size, as n is less than the number of samples.
    counts, remainders = np.divmod(sizes * n, max(1, len(labels)))
    by_remainder = np.argsort(-remainders, kind="stable")  # largest first, then the first class
    while (left := n - int(counts.sum())) > 0:
        able = by_remainder[counts[by_remainder] < sizes[by_remainder] - 1]
        counts[able[:left]] += 1
    rng = np.random.RandomState(seed)
    drawn = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in zip(classes, counts, strict=True)
    ]
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.concatenate([*drawn, np.empty(0, dtype=int)])] = True
    return np.flatnonzero(chosen).tolist(), np.flatnonzero(~chosen).tolist()
