"""The differences between Avalanche's classes and this package's, each measured by a function."""

from . import (
    checkpointing,
    ewc,
    heads,
    joint,
    lwf,
    mas_importance,
    mas_penalty,
    si,
)
from .row import Difference, Pair

DIFFERENCES: dict[str, Difference] = {
    name: row
    for module in (mas_importance, mas_penalty, ewc, si, lwf, heads, joint, checkpointing)
    for name, row in vars(module).items()
    if isinstance(row, Difference)
}
"""Name → difference, in the order of the table."""

__all__ = ["DIFFERENCES", "Difference", "Pair"]
