"""engine="batch" is what other libraries compute, and what is wrong with it."""

import pytest
import torch
from judge import flat, gradients, worst_error
from networks import build

from avalanche_mas import estimate_importance


def naive_batch(model, data, batch_size):
    """|gradient of the sum of a batch|, added over batches, over the number of samples."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for batch in data.split(batch_size):
        norm = sum((part**2).sum() for part in flat(model(batch)))
        for name, g in zip(total, gradients(norm, list(parameters.values())), strict=True):
            total[name] += g.abs()
    return {name: t / len(data) for name, t in total.items()}


@pytest.mark.parametrize("batch_size", [1, 4, 9])
@pytest.mark.parametrize("name", ["mlp", "residual", "lstm"])
def test_equals_the_naive_formula(name, batch_size):
    model, data = build(name)
    ours = estimate_importance(model, data, engine="batch", batch_size=batch_size)
    assert worst_error(ours, naive_batch(model, data, batch_size)) < 1e-10


def test_is_never_larger_and_shrinks_with_the_batch():
    model, data = build("mlp")
    exact = estimate_importance(model, data)
    masses = []
    for batch_size in (1, 3, 9):
        batch = estimate_importance(model, data, engine="batch", batch_size=batch_size)
        masses.append(sum(float(omega.sum()) for omega in batch.values()))
        for name, omega in batch.items():
            assert (omega <= exact[name] * (1 + 1e-12)).all()
    assert masses[0] > 1.02 * masses[1] > 1.02**2 * masses[2]
    assert masses[0] == pytest.approx(sum(float(omega.sum()) for omega in exact.values()))


def test_depends_on_the_order_where_exact_does_not():
    model, data = build("mlp")
    other = data[torch.tensor([0, 3, 6, 1, 4, 7, 2, 5, 8])]
    a, b = (estimate_importance(model, d, engine="batch", batch_size=3) for d in (data, other))
    assert worst_error(a, b) > 1e-3
    a, b = (estimate_importance(model, d, batch_size=3) for d in (data, other))
    assert worst_error(a, b) < 1e-12
