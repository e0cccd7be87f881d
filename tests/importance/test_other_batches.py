"""What holds for the first batches need not hold for others: longer samples, larger batches."""

import pytest
import torch
from judge import worst_error
from networks import free, module
from torch import nn

from avalanche_mas import estimate_importance, estimate_local_importance

EXACT = 1e-10


def linears():
    return {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "head": nn.Linear(4, 3)}


def a_repeated_parameter(self, x):
    repeated = self.t.repeat(x.shape[0] * x.shape[1], 1).view(len(x), -1).sum(1, keepdim=True)
    return self.head(torch.tanh(self.a(x)).sum(1) * repeated)


def a_repeated_parameter_is_added(self, x):
    h = self.a(x.flatten(0, 1) + self.t.repeat(x.shape[0] * x.shape[1], 1))
    return self.head(torch.tanh(h).view(x.shape).sum(1))


def everything_is_caught(self, x):
    try:
        h = torch.tanh(self.b(x)) if (x[:, 0, 0] > 0).all() else torch.relu(self.a(x))
    except:  # noqa: E722 as people write it
        h = x * 0
    return self.head(h.sum(1))


def a_number_in_place(self, x):
    h = x.clone()
    h[:, 0] = self.number
    h *= self.number
    return self.head(torch.tanh(h).sum(1))


def positions_first_in_place(self, x):
    size, length, _ = x.shape
    flat = x.transpose(0, 1).flatten(0, 1).clone()
    flat[:size] = self.t
    flat[size : 2 * size] = self.t2
    weight = torch.arange(1, length + 1).to(x)[:, None, None]
    return self.head(torch.tanh(flat.view(length, size, -1) * weight).sum(0) * x.sum(1))


def long_samples_are_mixed(self, x):
    h = self.a(x)
    if x.shape[1] > 4:
        h = h - h.mean(0, keepdim=True)
    return self.head(torch.tanh(h).sum(1))


def large_batches_go_another_way(self, x):
    h = self.a(x)
    return self.head(torch.tanh(torch.relu(h) if len(x) > 3 else h).sum(1))


SIZES = {
    a_repeated_parameter: [(3, 1), (3, 4), (4, 4)],
    a_repeated_parameter_is_added: [(3, 1), (3, 4), (4, 4)],
    everything_is_caught: [(4, 4), (2, 7), (4, 2), (1, 4), (3, 1), (5, 7)],
    a_number_in_place: [(4, 4), (3, 5)],
    positions_first_in_place: [(4, 5), (2, 5), (5, 4)],
    long_samples_are_mixed: [(4, 3), (4, 6)],
    large_batches_go_another_way: [(2, 3), (3, 3), (6, 3)],
}


@pytest.mark.parametrize("forward", SIZES)
@pytest.mark.filterwarnings("ignore:l-MAS has no layer")
def test_every_batch_is_that_of_its_samples(forward):
    torch.manual_seed(0)
    parts = {**linears(), "t": free(4), "t2": free(4), "number": free()}
    model = module(forward, **parts).double()
    batches = [torch.randn(*size, 4).double() for size in SIZES[forward]]
    single = [x[k : k + 1] for x in batches for k in range(len(x))]
    ours = estimate_importance(model, batches)
    assert worst_error(ours, estimate_importance(model, single, engine="loop")) < EXACT
    local = estimate_local_importance(model, batches)
    assert worst_error(local, estimate_local_importance(model, single)) < EXACT


@pytest.mark.parametrize("first", [1, 4])
def test_what_is_looked_at_belongs_to_the_samples(first):
    """With the whole mask, a sample alone would go the way of all."""

    def forward(self, x, mask):
        return self.head(torch.relu(self.a(x)) if mask.any() else x)

    model = module(forward, **linears()).double()
    mask = torch.tensor([[0, 0], [1, 0], [0, 0], [1, 1]]) > 0
    x = torch.randn(4, 4).double()
    batches = [{"x": x[:first], "mask": mask[:first]}, {"x": x, "mask": mask}]
    single = [{n: t[k : k + 1] for n, t in b.items()} for b in batches for k in range(len(b["x"]))]
    ours = estimate_importance(model, batches)
    assert worst_error(ours, estimate_importance(model, single, engine="loop")) < EXACT
