"""Eq. 3: the quadratic penalty, its step and its cost."""
