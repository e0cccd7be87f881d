"""A network whose way depends on the values of its samples is measured one sample at a time."""

import pytest
import torch
from judge import naive_importance, worst_error
from networks import module
from torch import nn

from avalanche_mas import estimate_importance, estimate_local_importance

LOOKS = {
    "bool": lambda x: (x > 2).any(),
    "equal": lambda x: not torch.equal(x.clamp(max=2), x),
    "allclose": lambda x: not torch.allclose(x.clamp(max=2), x),
    "is_nonzero": lambda x: torch.is_nonzero((x > 2).sum()),
    "item": lambda x: x.max().item() > 2,
    "tolist": lambda x: max(x.flatten().tolist()) > 2,
    "numpy": lambda x: x.detach().numpy().max() > 2,
    "asarray": lambda x: memoryview(x.detach().numpy()).tobytes() != b"" and x.numpy().max() > 2,
    "in": lambda x: 3.0 in x,
    "format": lambda x: float(f"{x.max():.3f}") > 2,
    "masked": lambda x: x[x > 2].numel() > 0,
    "nonzero": lambda x: len((x > 2).nonzero()) > 0,
    "argwhere": lambda x: len(torch.argwhere(x > 2)) > 0,
    "masked_select": lambda x: x.masked_select(x > 2).numel() > 0,
    "unique": lambda x: len((x > 2).unique()) > 1,
    "index": lambda x: [False, True][(x > 2).any().long()],
    "len of a slice": lambda x: len(x[: int((x > 2).sum())]) > 0,
    "repeat_interleave": lambda x: len(torch.repeat_interleave((x > 2).any().long()[None])) > 0,
}


def branch(looks):
    def forward(self, x):
        h = self.layer(x)
        return self.head(torch.tanh(h * 3 if looks(x) else h))

    return module(forward, layer=nn.Linear(4, 4), head=nn.Linear(4, 3)).double()


def one_large():
    x = torch.randn(16, 4).double().clamp(max=1.9)
    x[10, 0] = 3
    return x


@pytest.mark.parametrize("looks", LOOKS.values(), ids=LOOKS)
def test_every_way_to_look(looks):
    model, x = branch(looks), one_large()
    ours = estimate_importance(model, x)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10
    assert set(ours.fallbacks) == set(ours)
    assert all("values" in reason for reason in ours.fallbacks.values())
    local = estimate_local_importance(model, x)
    assert worst_error(local, estimate_local_importance(model, x, batch_size=1)) < 1e-10


@pytest.mark.parametrize(
    "looks",
    [
        lambda x, self: self.step > 0,
        lambda x, self: torch.equal(self.step, torch.tensor(1)),
        lambda x, self: self.layer.weight.shape[0] > 2,
        lambda x, self: x.shape[1] > 2 and x.is_floating_point() and x.dim() == 2,
        lambda x, self: self.layer.bias.numel() > 1 and str(x.dtype) == "torch.float64",
        lambda x, self: len(x) > 0 and x.stride()[-1] == 1 and not x.is_sparse,
        lambda x, self: int(torch.arange(3).sum()) > 2,
    ],
)
def test_looking_at_what_no_sample_changes_costs_nothing(looks):
    def forward(self, x):
        h = torch.relu(self.layer(x))
        return self.head(h * 2 if looks(x, self) else h)

    model = module(forward, layer=nn.Linear(4, 5), head=nn.Linear(5, 2)).double()
    model.register_buffer("step", torch.tensor(3))
    x = torch.randn(8, 4).double()
    ours = estimate_importance(model, x)
    assert not ours.fallbacks
    assert worst_error(ours, naive_importance(model, x)) < 1e-10


def test_indexing_without_a_mask_is_no_look():
    def forward(self, x):
        return self.layer(x[:, torch.tensor([2, 0, 1])])

    model, x = module(forward, layer=nn.Linear(3, 2)), torch.randn(6, 4)
    assert not estimate_importance(model, x).fallbacks
