"""Every network of the zoo, watched in inference mode."""

import pytest
import torch
from judge import length, one_sample, run, worst_error
from networks import ZOO, build

from avalanche_mas import estimate_local_importance, watch_local_importance
from avalanche_mas.importance.batches import model_input

EXACT = 1e-10
REFUSED = {"parameter_with_gaps", "activation_checkpointing", "broadcast_bias"}


@pytest.mark.parametrize("name", sorted(set(ZOO) - REFUSED))
@pytest.mark.filterwarnings("ignore:l-MAS has no layer")
def test_zoo(name):
    """Whatever the network does: l-MAS as of an estimate, and the output bit for bit."""
    model, data = build(name)
    data = model_input(data)
    parts = [part_of(data, 0, 4), part_of(data, 4, length(data))]
    with torch.inference_mode():
        plain = [run(model, part) for part in parts]
    with watch_local_importance(model, fraction=0.5) as watched, torch.inference_mode():
        answers = [run(model, part) for part in parts * 2]
    assert all(map(equal, answers, plain * 2))
    n = length(data)
    twice = [one_sample(data, k % n) for k in range(0, 2 * n, 2)]
    truth = estimate_local_importance(model, twice)
    assert worst_error(watched.importance, truth) < EXACT


def part_of(data, start, stop):
    if isinstance(data, dict):
        return {name: tensor[start:stop] for name, tensor in data.items()}
    return data[start:stop]


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return all(equal(a[key], b[key]) for key in b)
    return a is b or all(map(equal, a, b))
