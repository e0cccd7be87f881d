"""Accuracies and drops of a run on a sequence of tasks, in %."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..training.result import StreamResult


def final_and_drop(result: StreamResult) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy of each task after the last one, and the drop since it was learnt, in %.

    :return: both of shape (T,); drops are NaN after joint training.
    """
    R = 100 * np.array(result.accuracy, dtype=np.float64)
    drop = np.diag(R) - R[-1] if len(R) == R.shape[1] else np.full(R.shape[1], np.nan)
    return R[-1], drop
