"""The exact engine on networks that nobody thought of."""

import torch
from drawn import Drawn, networks
from hypothesis import given, reject, settings
from judge import worst_error
from test_no_trace import assert_same, state_of, state_of_the_world

from avalanche_mas import estimate_importance

NETWORKS = 300
"""Networks of different structure that are compared in each run, at least."""


def test_random_networks():
    """Exact, whatever the order and the size of the batches, and without a trace."""
    compared: set[str] = set()

    @settings(max_examples=NETWORKS * 11 // 10)  # a network may be degenerate, or be drawn twice
    @given(network=networks())
    def exact(network: Drawn) -> None:
        truth = network.truth()
        if any(bool(omega.any()) for omega in truth.values()):  # not all ReLUs are dead
            batches = network.batches()
            as_if_in_training(network.model)
            before = state_of(network.model), state_of_the_world()
            try:
                ours = estimate_importance(network.model, batches, engine="exact")
            except ValueError as error:
                # a matrix of as many rows as samples, in a network that mixes the samples
                if "matrix" in network.data and "cannot be seen from the output" in str(error):
                    reject()
                raise
            assert_same(before[0], state_of(network.model))
            assert_same(before[1], state_of_the_world())
            assert worst_error(ours, truth) < 1e-10
            # by rules or by vmap of one operation: a wrong rule would be found out, and left to the
            # slow engines
            if network.all_ruled:
                assert all("in-place" in reason for reason in ours.fallbacks.values())
            compared.add(network.structure)

    exact()
    assert len(compared) >= NETWORKS


def as_if_in_training(model):
    """In train mode, with a gradient."""
    model.train()
    parameter = next(p for p in model.parameters() if p.requires_grad)
    parameter.grad = torch.ones_like(parameter)
