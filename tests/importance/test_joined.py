"""Several uses of one parameter become one use wherever they have a common form."""

import pytest
import torch
from torch import nn

from avalanche_mas import estimate_importance
from avalanche_mas.importance.rules.conv import Convolution
from avalanche_mas.importance.rules.embedding import Rows
from avalanche_mas.importance.rules.per_sample import Dense, Outer, Sum

B = 4


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def convolution(length, padding=0):
    shape = length + 2 * padding - 2
    options = ([1], [padding], [1], False, [0], 1)
    return Convolution(random(B, 1, 2, length), random(B, 1, 3, shape), random(3, 2, 3), options)


FORMS = {
    "dense": (lambda: [Dense(random(B, 3, 2, 3)) for _ in range(3)], 1),
    "outer": (lambda: [Outer(random(B, t, 3), random(B, t, 6)) for t in (1, 4, 2)], 1),
    "rows": (lambda: [Rows(random(B, t, 6), torch.randint(0, 3, (B, t)), 3) for t in (2, 5)], 1),
    "convolution": (lambda: [convolution(9) for _ in range(3)], 1),
    "convolutions of two sizes": (lambda: [convolution(9), convolution(7)], 2),
    "convolutions of two kinds": (lambda: [convolution(9), convolution(9, padding=1)], 2),
    "two forms": (lambda: [Outer(random(B, 1, 3), random(B, 1, 6)), Dense(random(B, 3, 6))], 2),
}


@pytest.mark.parametrize("magnitude", [torch.abs, torch.square])
@pytest.mark.parametrize("name", FORMS)
def test_is_the_sum_of_the_uses(name, magnitude):
    make, remaining = FORMS[name]
    uses = make()
    parameter = random(*uses[0].dense(0, 1).shape[1:])
    whole = Sum(parameter, [(parameter, use) for use in uses])
    assert len(whole.uses) == remaining
    expected = sum(use.dense(0, B) for use in uses)
    torch.testing.assert_close(whole.dense(1, 3), expected[1:3])
    total = torch.ones_like(parameter)
    whole.add(total, magnitude)
    torch.testing.assert_close(total, 1 + magnitude(expected).sum(0), rtol=1e-12, atol=1e-12)


def test_uses_of_other_parts_stay_apart():
    parameter = random(4, 3)
    parts = [parameter, parameter[1:3], parameter[1:3], parameter[:3].t()]
    shapes = [(4, 3), (2, 3), (2, 3), (3, 3)]
    gradients = [Outer(random(B, 1, o), random(B, 1, i)) for o, i in shapes]
    whole = Sum(parameter, list(zip(parts, gradients, strict=True)))
    assert len(whole.uses) == 3
    expected = gradients[0].dense(0, B)
    expected[:, 1:3] += gradients[1].dense(0, B) + gradients[2].dense(0, B)
    expected[:, :3] += gradients[3].dense(0, B).transpose(1, 2)
    torch.testing.assert_close(whole.dense(0, B), expected)


def test_one_part_of_a_parameter_used_twice():
    parameter = random(4, 3)
    uses = [Outer(random(B, 1, 3), random(B, 1, 2)) for _ in range(2)]
    whole = Sum(parameter, [(parameter.t()[:, 1:3], use) for use in uses])
    total = torch.zeros(4, 3, dtype=torch.float64)
    whole.add(total, torch.abs)
    expected = torch.zeros(4, 3, dtype=torch.float64)
    expected[1:3] = sum(use.dense(0, B) for use in uses).abs().sum(0).t()
    torch.testing.assert_close(total, expected)


def test_time_steps_are_one_product_for_each_sample(monkeypatch):
    """The recurrent weight of an LSTM is used at 7 steps, and nothing is written out for it."""
    positions = []
    add = Outer.add

    def recorded(self, total, magnitude):
        positions.append(self.x.shape[1])
        add(self, total, magnitude)

    monkeypatch.setattr(Outer, "add", recorded)
    monkeypatch.setattr(Outer, "dense", None)
    layer = nn.LSTM(3, 4, batch_first=True)
    estimate_importance(
        layer, torch.randn(5, 7, 3), forward=lambda model, x: model(x)[0], batch_size=5
    )
    assert set(positions) == {7}
