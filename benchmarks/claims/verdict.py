"""Whether numbers of several seeds decide a claim."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ttest_1samp

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "not decided", "not run"
WORDS = (HOLDS, FAILS, OPEN, NOT_RUN)

LEAST = 5
"""Seeds below which nothing is decided."""

LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    :param word: one of :data:`WORDS`.
    :param p: of the test; None: there is nothing to test, as all seeds agree, or there is one.
    """

    word: str
    p: float | None = None

    @property
    def compared(self) -> str:
        """The word for a method whose gains over another one must be above 0."""
        return {HOLDS: "better", FAILS: "worse"}.get(self.word, self.word)


def judge(differences: ArrayLike, low: float = -inf, high: float = inf) -> Verdict:
    """Test whether the mean of paired differences lies between two bounds, by a t-test for each.

    Against a bound of 0 it is the paired t-test. Both sides of each test count, so the claim and
    its opposite have the same chance. Where all seeds give the same number it is compared as it is.

    :param differences: a number for each seed.
    :param low: what the mean must be above.
    :param high: what the mean must be below.
    :return: *holds* if it is inside and no bound can be where it is, by p < 0.05; *does not hold*
        likewise outside; otherwise, or with fewer than five seeds, *not decided*.
    """
    found = np.asarray(differences, dtype=np.float64)
    mean = float(found.mean())
    bounds = [bound for bound in (low, high) if isfinite(bound)]
    passed = [bound for bound in bounds if not (low < mean if bound == low else mean < high)]
    p = None
    if (found != found[0]).any():
        values = [float(ttest_1samp(found, bound).pvalue) for bound in passed or bounds]
        p = min(values) if passed else max(values)
    decided = mean not in bounds if p is None else p < LEVEL
    if len(found) < LEAST or not decided:
        return Verdict(OPEN, p)
    return Verdict(FAILS if passed else HOLDS, p)
