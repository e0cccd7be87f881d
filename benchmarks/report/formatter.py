"""Formats numbers as text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray


def spread(values: ArrayLike, form: str = ".1f", deviation: str | None = None) -> str:
    """Mean ± standard deviation (of a sample: n - 1); no deviation of a single value.

    :param values: those of all seeds; NaN or None: not defined.
    :param form: the format of the mean.
    :param deviation: that of the deviation; None: the same.
    :return: a dash if any value is not defined.
    """
    found = np.asarray(values, dtype=np.float64)
    if np.isnan(found).any():
        return "-"
    mean = f"{found.mean():{form}}"
    return f"{mean} ± {found.std(ddof=1):{deviation or form}}" if len(found) > 1 else mean


def listed(values: Iterable[object]) -> str:
    """Values with commas between them."""
    return ", ".join(map(str, values))


def wins(gains: NDArray[np.float64], higher: bool | None) -> str:
    """On how many seeds the first of two is better.

    :param gains: by seed, the first minus the second.
    :param higher: whether a higher value is better; None: neither is.
    """
    if higher is None:
        return "-"
    if not gains.any():
        return "equal"
    return f"{(gains > 0 if higher else gains < 0).sum()} of {len(gains)}"
