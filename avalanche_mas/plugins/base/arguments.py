"""Checks of arguments that several plugins take."""

import math


def check_not_negative(**values: float) -> None:
    """:raises ValueError: for a number that is negative, infinite or NaN."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and must not be negative, got {value}")
