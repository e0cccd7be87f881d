"""Methods compared on a benchmark and a model of the user's own."""

from .compare import compare_methods
from .comparison import Comparison

__all__ = ["Comparison", "compare_methods"]
