"""Seeds that never learnt the first task, which say nothing of how it is kept: one rule for all."""

from __future__ import annotations

from collections.abc import Mapping

_SHARE = 0.5  # of what the best seed reaches


def learnt_seeds(first: Mapping[int, float], what: str) -> tuple[tuple[int, ...], list[str]]:
    """Leave out seeds that just after the first task reach less than half of what the best does.

    No method protects anything yet while the first task is learnt, so the seed is at fault.

    :param first: by seed, the score on the first task just after it was learnt, by whichever
        method it is highest.
    :param what: the name of the first task, or of a sequence.
    :return: the seeds that stay, and a sentence on each of the others.
    """
    best = max(first.values(), default=0.0)
    kept = tuple(seed for seed, score in first.items() if score >= _SHARE * best)
    return kept, [
        f"Seed {seed} is left out of {what}, for all methods: its first task was never learnt, "
        f"{100 * score:.1f} % where the best seed reaches {100 * best:.1f} %."
        for seed, score in first.items()
        if seed not in kept
    ]
