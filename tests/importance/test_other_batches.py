"""What holds for the first batches need not hold for others: longer samples, larger batches."""

import pytest
import torch
from judge import naive_importance, worst_error
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


@pytest.mark.parametrize("lengths", [(3, 0, 2), (0, 3), (0, 0)])
@pytest.mark.parametrize("output", ["norm", "vector", "squares"])
def test_a_batch_without_any_position(lengths, output):
    """Pictures without boxes, empty texts."""

    def forward(self, x, boxes):
        kind = self.kind((boxes[..., 0] > 0).long())
        return self.head(torch.tanh(self.picture(x) + (self.box(boxes) * self.scale + kind).sum(1)))

    parts = {"picture": nn.Linear(3, 5), "box": nn.Linear(4, 5), "kind": nn.Embedding(2, 5)}
    model = module(forward, **parts, head=nn.Linear(5, 2), scale=free(5)).double()
    batches = [
        {"x": torch.randn(6, 3).double(), "boxes": torch.randn(6, n, 4).double()} for n in lengths
    ]
    samples = [{k: v[i : i + 1] for k, v in b.items()} for b in batches for i in range(6)]
    expected = estimate_importance(model, samples, engine="loop", output=output)
    assert worst_error(estimate_importance(model, batches, output=output), expected) < EXACT
    assert "picture.weight" in estimate_local_importance(model, batches)


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_within_the_forward_pass(order):
    """A network that is a solution's derivatives, too."""

    def forward(self, x):
        x = x.detach().requires_grad_()
        u = self.head(torch.tanh(self.a(x)))
        found = [u]
        for _ in range(order):
            (g,) = torch.autograd.grad(found[-1].sum(), x, create_graph=True)
            found.append(g[:, :1])
        return torch.cat(found, 1)

    model = module(forward, a=nn.Linear(4, 6), head=nn.Linear(6, 1)).double()
    x = torch.randn(16, 4).double()
    ours = estimate_importance(model, x.split(8))
    assert worst_error(ours, naive_importance(model, x)) < EXACT
    assert set(ours.fallbacks) == set(ours)
    assert "gradients in its forward pass" in ours.fallbacks["a.weight"]
