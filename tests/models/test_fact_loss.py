import math

import pytest
import torch
from torch.nn import functional as F

from avalanche_mas.models import FactLoss

B, D = 5, 4


def batch(dtype=torch.float64):
    output = torch.randn(B, 3 * D, dtype=dtype, requires_grad=True)
    masks = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=dtype)
    return output, torch.cat([torch.randn(B, 3 * D, dtype=dtype), masks], dim=1)


@pytest.mark.parametrize("squared", [False, True])
def test_equals_the_formula_sample_by_sample(squared):
    output, target = batch()
    expected = 0.0
    for v, row in zip(output.tolist(), target.tolist(), strict=True):
        for unit, w in enumerate(row[-3:]):
            own = range(unit * D, (unit + 1) * D)
            square = sum((v[i] - row[i]) ** 2 for i in own)
            expected += w * (square if squared else math.sqrt(square)) / B
    assert FactLoss(squared)(output, target).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("squared", [False, True])
def test_masks_stay_with_their_samples(squared):
    output, target = batch()
    FactLoss(squared)(output, target).backward()
    moved = output.grad.view(B, 3, D).ne(0).any(2)
    assert torch.equal(moved, target[:, -3:] != 0)
    # a sample's loss is the same alone and among others
    alone = [FactLoss(squared)(output[i : i + 1], target[i : i + 1]) for i in range(B)]
    torch.testing.assert_close(FactLoss(squared)(output, target), torch.stack(alone).mean())


def test_the_product_of_released_code_mixes_samples():
    """w.unsqueeze(1) * distances is (B, 1) × (B,): B × B products of all masks, all distances."""
    output, target = batch()
    parts = zip(output.split(D, 1), target[:, :-3].split(D, 1), target[:, -3:].T, strict=True)
    mixed = sum(w.unsqueeze(1) * F.pairwise_distance(v, t) for v, t, w in parts)
    assert mixed.shape == (B, B)
    mixed.mean().backward()
    assert output.grad.view(B, 3, D)[4].any()  # the sample that has no unit at all
    assert not torch.isclose(mixed.mean(), FactLoss()(output, target))


@pytest.mark.parametrize("squared", [False, True])
def test_no_distance_no_gradient(squared):
    output, target = batch()
    target[0, :-3] = output[0].detach()
    loss = FactLoss(squared)(output, target)
    loss.backward()
    assert torch.equal(output.grad[0], torch.zeros(3 * D, dtype=output.dtype))
    assert output.grad.isfinite().all()
    assert output.grad[1].any()


@pytest.mark.parametrize(
    ("output", "target", "message"),
    [
        ((2, 7), (2, 10), r"this output has shape \(2, 7\)"),
        ((2, 0), (2, 3), r"this output has shape \(2, 0\)"),
        ((6,), (9,), r"this output has shape \(6,\)"),
        ((2, 6), (2, 6), r"the shape \(2, 9\) is needed, this is \(2, 6\)"),
        ((2, 6), (1, 9), r"the shape \(2, 9\) is needed, this is \(1, 9\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(output, target, message):
    with pytest.raises(ValueError, match=message):
        FactLoss()(torch.zeros(output), torch.zeros(target))
