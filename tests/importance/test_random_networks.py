"""The exact engine on networks that nobody thought of."""

from drawn import Drawn, networks
from hypothesis import given, settings
from judge import naive_importance, worst_error

from avalanche_mas import estimate_importance

NETWORKS = 200
"""Networks of different structure that are compared in each run, at least."""


def test_random_networks():
    compared: set[str] = set()

    @settings(max_examples=NETWORKS * 5 // 4)  # a network may be degenerate, or be drawn twice
    @given(network=networks())
    def exact(network: Drawn) -> None:
        truth = naive_importance(network.model, network.data)
        if any(bool(omega.any()) for omega in truth.values()):  # not all ReLUs are dead
            ours = estimate_importance(network.model, network.batches(), engine="exact")
            assert worst_error(ours, truth) < 1e-10
            # by rules or by vmap of one operation: a wrong rule would be found out, and left to the
            # slow engines
            assert all("in-place" in reason for reason in ours.fallbacks.values())
            compared.add(network.structure)

    exact()
    assert len(compared) >= NETWORKS
