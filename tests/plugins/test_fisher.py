"""The Fisher information against the naive loop over single samples, in float64."""

import functools

import pytest
import torch
from naive_fisher import KINDS, naive_fisher, weighing
from tiny_avalanche import assert_close, mlp, same_bits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from avalanche_mas.importance import batches
from avalanche_mas.plugins.ewc.fisher import estimate_fisher

equal = functools.partial(assert_close, rtol=1e-10, atol=1e-14)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


class Convolutional(nn.Module):
    """With BatchNorm and dropout, which are in eval mode while F is measured."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, x):
        return self.head(self.body(x.view(-1, 2, 2, 2)))


def trained_convolutional():
    model = Convolutional()
    with torch.no_grad():
        model(torch.randn(20, 8))  # statistics of BatchNorm
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 4, 30])
def test_fisher_is_that_of_single_samples(kind, batch_size):
    model = trained_convolutional()
    x, y = torch.randn(30, 8), torch.randint(3, (30,))
    before, state = torch.get_rng_state(), {n: t.clone() for n, t in model.state_dict().items()}
    ours = estimate_fisher(model, TensorDataset(x, y), fisher=kind, batch_size=batch_size, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(model.state_dict(), state)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    equal(ours, naive_fisher(model, list(zip(x, weighing(kind, y, seed=5), strict=True))))
    assert ours.samples == 30
    assert not ours.fallbacks


def test_the_three_kinds_differ_and_sampling_is_right_on_average():
    model, x, y = mlp(3), torch.randn(40, 8), torch.zeros(40).long()
    data = TensorDataset(x, y)
    expected, empirical = (
        estimate_fisher(model, data, fisher=kind)["2.weight"] for kind in KINDS[::2]
    )
    draws = [estimate_fisher(model, data, fisher="sampled", seed=s)["2.weight"] for s in range(150)]
    assert not torch.equal(draws[0], draws[1])
    error = (torch.stack(draws).mean(0) - expected).norm() / expected.norm()
    assert error < 0.05
    assert (draws[0] - expected).norm() > 2 * error * expected.norm()
    assert (empirical - expected).norm() > 0.1 * expected.norm()


def test_a_loader_keeps_its_generator():
    loader = DataLoader(
        TensorDataset(torch.randn(10, 8)), 3, shuffle=True, generator=torch.Generator()
    )
    before = loader.generator.get_state()
    estimate_fisher(mlp(), loader, fisher="sampled")
    assert torch.equal(loader.generator.get_state(), before)


def test_impossible_classes_are_never_drawn():
    """An Avalanche head masks units without a class; u = 0 must not choose the first of them."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = nn.Linear(8, 3)

        def forward(self, x):
            return torch.cat([0 * x[:, :1] - 1000, self.scores(x), 0 * x[:, :1] - 1000], 1)

    x = torch.randn(64, 8, dtype=torch.float32)
    fisher = estimate_fisher(Masked().float(), x, fisher="sampled")
    assert fisher["scores.weight"].max() < x.square().max()


def test_gaussian_likelihood():
    """(∂F_c)² of each output, and for targets y the square of Σ_c (F_c − y_c) ∂F_c."""
    layer, x, y = nn.Linear(4, 3, bias=False), torch.randn(6, 4), torch.randn(6, 3)
    data = TensorDataset(x, y)
    ours = estimate_fisher(layer, data, likelihood="gaussian")["weight"]
    torch.testing.assert_close(ours, x.square().mean(0).expand(3, 4))
    empirical = estimate_fisher(layer, data, likelihood="gaussian", fisher="empirical")["weight"]
    rest = layer(x).detach() - y
    torch.testing.assert_close(empirical, torch.einsum("ko,ki->oi", rest**2, x**2) / 6)


def test_outputs_without_a_likelihood_are_refused_in_words():
    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(TypeError, match=r"one tensor; this model returned a tuple"):
        estimate_fisher(Two(4, 3), torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"scores of shape \(batch, classes\).*\(2, 5, 3\)"):
        estimate_fisher(nn.Linear(4, 3), torch.randn(2, 5, 4))
    with pytest.raises(ValueError, match=r"one class index.*float64"):
        estimate_fisher(nn.Linear(4, 3), [(torch.randn(2, 4), torch.randn(2))], fisher="empirical")


@pytest.mark.parametrize("kind", KINDS)
def test_reading_options_are_those_of_every_estimate(kind):
    model, data = mlp(3), TensorDataset(torch.randn(30, 8), torch.randint(3, (30,)))
    some = estimate_fisher(model, data, fisher=kind, max_samples=10, seed=5)
    assert some.samples == 10
    chosen = [data[i] for i in batches.some_of(30, 10)]
    few = TensorDataset(torch.stack([x for x, _ in chosen]), torch.stack([y for _, y in chosen]))
    options = {"num_workers": 2, "device": "cpu", "batch_size": 3}
    equal(estimate_fisher(model, few, fisher=kind, seed=5, **options), some)


def test_another_device_is_a_copys():
    """On the meta device nothing can be computed: it is the copy that is sent there."""
    model = mlp(3)
    with pytest.raises(ValueError, match="meta"):
        estimate_fisher(model, torch.randn(4, 8), device="meta")
    assert all(p.device.type == "cpu" for p in model.parameters())
