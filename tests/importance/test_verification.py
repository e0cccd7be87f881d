"""Rules are compared with the loop, at first and again as data go by; no result is mixed."""

import pytest
import torch
from judge import naive_importance, worst_error
from networks import at_a_kink, module
from torch import nn

from avalanche_mas import estimate_importance
from avalanche_mas.importance.engines import base
from avalanche_mas.importance.engines.base import VerificationError
from avalanche_mas.importance.engines.exact import Exact


class Turning(torch.autograd.Function):
    """Its gradient is that of the identity until inputs are large. Then it is wrong for samples
    that are not alone, which no operation shows that is seen."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(context, delta):
        (x,) = context.saved_tensors
        return torch.where(x.abs().amax() > 5, len(delta) * delta, delta)


def turning():
    def forward(self, x):
        return self.head(Turning.apply(torch.tanh(self.layer(x)) * x.abs().amax(1, keepdim=True)))

    return module(forward, layer=nn.Linear(4, 5), head=nn.Linear(5, 2)).double()


def batches(turn=64, number=70):
    """The samples from batch ``turn`` on are large."""
    return [torch.rand(4, 4).double() + (20 if i >= turn - 1 else 0) for i in range(number)]


def test_a_late_difference_begins_again():
    model, data = turning(), batches()
    with pytest.warns(UserWarning, match=r"layer\.(weight|bias).*read again"):
        ours = estimate_importance(model, data)
    assert worst_error(ours, naive_importance(model, torch.cat(data))) < 1e-10
    assert {"layer.weight", "layer.bias"} <= set(ours.fallbacks)


def test_or_is_an_error_where_the_data_are_gone():
    with pytest.raises(VerificationError, match=r"layer\.(weight|bias)"):
        estimate_importance(turning(), iter(batches()))


@pytest.mark.parametrize(("verify", "turn"), [("every batch", 7), ("growing", 64)])
def test_how_often(verify, turn):
    with pytest.raises(VerificationError):
        estimate_importance(turning(), iter(batches(turn)), verify=verify)


def test_off_means_off(monkeypatch):
    def never(*args):
        raise AssertionError

    monkeypatch.setattr(base.PlannedEngine, "_check_again", never)
    monkeypatch.setattr("avalanche_mas.importance.engines.exact.Exact.compare", never)
    estimate_importance(turning(), batches(turn=200), verify="off")


@pytest.mark.parametrize("verify", ["growing", "every batch"])
def test_a_sample_at_a_kink_is_no_fault_of_a_rule(verify):
    """ResNet-18 in float32 was measured again by a slower engine for that."""
    torch.manual_seed(0)
    ours = estimate_importance(at_a_kink(), [torch.randn(4, 4) for _ in range(70)], verify=verify)
    assert ours.fallbacks == {}


@pytest.mark.filterwarnings("ignore:.*read again")
@pytest.mark.parametrize("size", [1e-2, 1e-1, 1.0])
def test_a_small_fault_of_a_rule_is_one(monkeypatch, size):
    """Of any size: it is there in float64, too."""
    real = Exact.measure

    def wrong(self, plan, batch, number, total):
        before = total["0.weight"].clone()
        measured = real(self, plan, batch, number, total)
        self.products.flush()
        if "0.weight" not in self.unruled:
            total["0.weight"] += size * (total["0.weight"] - before)
        return measured

    monkeypatch.setattr(Exact, "measure", wrong)
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(8, 4)
    ours = estimate_importance(model, data)
    assert set(ours.fallbacks) == {"0.weight", "0.bias"}  # of one operation
    assert worst_error(ours, naive_importance(model, data)) < 1e-5


def test_an_unknown_option():
    with pytest.raises(ValueError, match="verify must be one of"):
        estimate_importance(turning(), batches(), verify="sometimes")


@pytest.mark.parametrize("number", [63, 64, 300])
def test_few_batches_are_compared(monkeypatch, number):
    """Two samples at batches 64, 128, 256, ...: below three per cent of a network like AlexNet."""
    compared = []
    real = base.PlannedEngine._check_again

    def counting(self, plan, batch, size, total):
        compared.append(self._batches)
        real(self, plan, batch, size, total)

    monkeypatch.setattr(base.PlannedEngine, "_check_again", counting)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    estimate_importance(model, [torch.randn(4, 4) for _ in range(number)])
    assert compared == [n for n in (64, 128, 256) if n <= number]


def test_a_parameter_that_is_used_late_is_compared_then():
    """A gate opens in the third batch, and what is behind it goes wrong for several samples."""

    def forward(self, x):
        gate = (x[:, :1] > 0).to(x)
        late = torch.tanh(self.late(x)) * gate
        return self.head(x) + Turning.apply(late * 1e3)

    model = module(forward, late=nn.Linear(4, 2), head=nn.Linear(4, 2)).double()
    data = [torch.rand(4, 4).double() for _ in range(5)]
    for i, x in enumerate(data):
        x[:, 0] = 1 if i >= 2 else -1
    ours = estimate_importance(model, iter(data))
    assert worst_error(ours, naive_importance(model, torch.cat(data))) < 1e-10
    assert set(ours.fallbacks) == {"late.weight", "late.bias"}


def test_sums_do_not_stagnate():
    """A float32 sum of 16 million ones would stop there."""
    model, x = nn.Linear(3, 2), torch.randn(1 << 15, 3)
    once = estimate_importance(model, x)
    often = estimate_importance(model, (x for _ in range(512)))
    assert often.samples == 1 << 24
    for name in once:
        assert torch.allclose(often[name], once[name], rtol=1e-5)
