"""l-MAS against its twin, on well-known networks and on networks that nobody thought of."""

import warnings

import pytest
from architectures import ARCHITECTURES
from drawn import Drawn, networks
from hypothesis import assume, given, settings
from judge import worst_error
from networks import ZOO, build
from twin import layerwise_importance

from avalanche_mas import estimate_local_importance
from avalanche_mas.importance.batches import model_input

EXACT = 1e-10
NETWORKS = 100
"""Networks of different structure that are compared in each run, at least."""


def compare(model, data, batches):
    truth, elsewhere = layerwise_importance(model, data)
    for name in elsewhere:
        truth[name].zero_()
    if not any(bool(omega.any()) for omega in truth.values()):
        return False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = estimate_local_importance(model, batches)
    assert worst_error(ours, truth) < EXACT
    named = " ".join(str(warning.message) for warning in caught)
    assert all(f"{name} (" in named for name in elsewhere)
    return True


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures(name):
    model, data = ARCHITECTURES[name].build()
    assert compare(model, data, data.split([2, len(data) - 2]))


REFUSED = {"parameter_with_gaps", "activation_checkpointing"}
OTHER_LAYERS = {"two_parameters_one_memory", "broadcast_bias", "token_in_place_of_some"}
"""Where it is a matter of opinion which parameter is used, and whether the operation is a layer;
the twin does not see an operation that returns nothing."""


@pytest.mark.parametrize("name", sorted(set(ZOO) - REFUSED - OTHER_LAYERS))
def test_zoo(name):
    model, data = build(name)
    if isinstance(data, dict):
        data = model_input(data)
        assert compare(model, data, [data])
    else:
        assert compare(model, data, data.split([4, 2, 3]))


def test_random_networks():
    compared: set[str] = set()

    @settings(max_examples=NETWORKS * 3 // 2)
    @given(network=networks())
    def equal(network: Drawn) -> None:
        # in the others it is a matter of definition: padding has positions, a constant is an input
        assume(network.all_ruled)
        # test_layer_used_twice_and_overwritten_after_each_use, in test_local.py
        if compare(network.model, network.data, network.batches()):
            compared.add(network.structure)

    equal()
    assert len(compared) >= NETWORKS
