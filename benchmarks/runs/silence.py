"""Keeps other libraries' chatter off the screen."""

import warnings


def silence_libraries() -> None:
    """Ignore what Avalanche and its dependencies warn of in their own code; call it first.

    Warnings of ``avalanche_mas`` stay: only names below ``avalanche.`` match.
    """
    warnings.filterwarnings("ignore", module=r"avalanche\.|qpsolvers")
