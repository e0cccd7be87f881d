"""Samples that depend on each other in some batches only, and those that a network sorts."""

import pytest
import torch
from judge import naive_importance, worst_error
from networks import free, module
from torch import nn
from torch.nn import functional

from avalanche_mas import estimate_importance, estimate_local_importance
from avalanche_mas.importance.engines.base import Apart, VerificationError, differs

EXACT = 1e-10


@pytest.mark.parametrize("seed", range(5))
def test_what_is_beyond_the_capacity_of_an_expert(seed):
    """It is dropped in a full batch, and not among the few samples that plans are checked on."""

    def forward(self, x):
        x = torch.tanh(self.layer(x))
        chance, expert = self.gate(x).softmax(-1).max(-1)
        chosen = functional.one_hot(expert, 4).to(x)
        place = (chosen.cumsum(0) * chosen).sum(-1)
        weight = chosen * (chance * (place <= max(4, len(x) / 3)))[:, None]
        own = torch.tanh(torch.einsum("bi,eio->beo", x, self.weight))
        return self.head(x + torch.einsum("be,beo->bo", weight, own))

    torch.manual_seed(seed)
    parts = {"layer": nn.Linear(6, 6), "gate": nn.Linear(6, 4), "head": nn.Linear(6, 3)}
    model = module(forward, weight=free(4, 6, 6), **parts).double()
    x = torch.randn(192, 6).double()
    ours = estimate_importance(model, iter(x.split(64)))
    assert worst_error(ours, naive_importance(model, x)) < EXACT
    assert "what else is in its batch" in ours.fallbacks["layer.weight"]


def grouped():
    """Every sample is seen beside the mean of those that have the same number of a group."""

    def forward(self, x, group):
        h, ones = torch.tanh(self.layer(x)), torch.ones(len(x)).to(x)
        count = torch.zeros(100).to(x).index_add(0, group, ones).clamp_min(1)
        mean = torch.zeros(100, 5).to(x).index_add(0, group, h) / count[:, None]
        return self.head(torch.cat([h, mean[group]], -1))

    return module(forward, layer=nn.Linear(4, 5), head=nn.Linear(10, 3)).double()


@pytest.mark.parametrize("members", [3, 4, 15])
def test_a_few_samples_of_one_group(members):
    for seed in range(4):
        torch.manual_seed(seed)
        group = torch.arange(16)
        group[torch.randperm(16)[:members]] = 50
        model, data = grouped(), {"x": torch.randn(16, 4).double(), "group": group}
        ours = estimate_importance(model, [data])
        assert worst_error(ours, naive_importance(model, data)) < EXACT


def grouped_from(turn, number):
    """Batches, of which those from ``turn`` on have all their samples in one group."""
    one, each = torch.full((16,), 50), torch.arange(16)
    return [
        {"x": torch.randn(16, 4).double(), "group": (one if i >= turn else each).clone()}
        for i in range(1, number + 1)
    ]


@pytest.mark.parametrize("turn", [2, 3, 8])
def test_a_later_batch_begins_again(turn):
    model, data = grouped(), grouped_from(turn, 10)
    whole = {name: torch.cat([batch[name] for batch in data]) for name in data[0]}
    with pytest.warns(UserWarning, match="read again"):
        ours = estimate_importance(model, data)
    assert worst_error(ours, naive_importance(model, whole)) < EXACT


def test_or_is_an_error_where_the_data_are_gone():
    """No result is returned of which some batches were measured wrongly."""
    with pytest.raises(VerificationError):
        estimate_importance(grouped(), iter(grouped_from(3, 5)))


def test_every_batch_means_all_samples_of_each():
    data = grouped_from(4, 3)
    data[2]["group"][3:6] = 50
    with pytest.raises(VerificationError):
        estimate_importance(grouped(), iter(data), verify="every batch")


def sorted_by_score(self, x):
    h = torch.tanh(self.layer(x))
    order = h[:, 0].argsort()
    return torch.tanh(self.layer(h[order]))[order.argsort()]


def each_half_sorted_by_its_own_score(self, x):
    def encode(x):
        order = x[:, 0].argsort()
        return torch.tanh(self.layer(x[order]))[order.argsort()]

    return self.head(encode(x) * encode(x.flip(1)))


@pytest.mark.parametrize("forward", [sorted_by_score, each_half_sorted_by_its_own_score])
def test_a_weight_that_sees_samples_in_two_orders(forward):
    """The few samples that a plan is checked on may happen to be in order already."""
    for seed in range(20):
        torch.manual_seed(seed)
        model = module(forward, layer=nn.Linear(6, 6), head=nn.Linear(6, 2)).double()
        x = torch.randn(12, 6).double()
        assert worst_error(estimate_importance(model, x), naive_importance(model, x)) < EXACT


def pictures(size, brightest):
    x = 100 * torch.rand(size, 5).double()
    x[:, 0] = brightest
    return x


def by_the_brightest(self, x):
    return self.head(torch.tanh(self.layer(x / x.max())))


def clipped(self, x):
    h = self.layer(x / 100)
    return self.head(h / h.detach().norm().clamp_min(300.0) * 300)


@pytest.mark.parametrize("number", [3, 7, 15])
@pytest.mark.parametrize("forward", [by_the_brightest, clipped])
def test_samples_that_depend_on_each_other_in_the_last_batches(forward, number):
    """None of batches 3, 5-7 and 9-15 is looked at: a sample that is much larger shows it."""
    model = module(forward, layer=nn.Linear(5, 6), head=nn.Linear(6, 3)).double()
    bright = [pictures(16, torch.full((16,), 255.0)) for _ in range(number // 2 + 1)]
    other = [pictures(16, 255 * torch.rand(16) + 1) for _ in range(number // 2)]
    if forward is clipped:
        other = [1000 * x for x in other]
    ours = estimate_importance(model, [*bright, *other])
    assert worst_error(ours, naive_importance(model, torch.cat([*bright, *other]))) < EXACT
    assert all("depends on the others" in reason for reason in ours.fallbacks.values())
    local = estimate_local_importance(model, [*bright, *other])
    alone = estimate_local_importance(model, torch.cat([*bright, *other]), batch_size=1)
    assert worst_error(local, alone) < EXACT


def test_a_few_dark_pictures_among_bright_ones():
    """Among an eighth of the batch there is a bright one, too."""
    for seed in range(5):
        torch.manual_seed(seed)
        model = module(by_the_brightest, layer=nn.Linear(5, 6), head=nn.Linear(6, 3)).double()
        x = pictures(32, torch.full((32,), 255.0))
        x[[3, 9, 21], 0] = 130
        assert worst_error(estimate_importance(model, x), naive_importance(model, x)) < EXACT


def test_a_model_that_refuses_large_values():
    def forward(self, x):
        if float(x.detach().abs().max()) > 100:
            raise ValueError("not a picture")
        return self.layer(x)

    model, x = module(forward, layer=nn.Linear(4, 2)).double(), torch.randn(12, 4).double()
    assert worst_error(estimate_importance(model, x), naive_importance(model, x)) < EXACT


def test_round_off_is_no_difference():
    """Also for a sample whose output is near zero by chance."""
    output = torch.randn(64, 1)
    output[3] = 1e-9
    rows = torch.arange(8)
    assert not differs([Apart(rows, [output[rows] + 1e-7])], [output])


def test_one_sample_of_many_is_enough():
    output = torch.randn(64, 5)
    rows, other = torch.arange(64), output.clone()
    other[9] *= 1.01
    assert differs([Apart(rows, [other])], [output])
