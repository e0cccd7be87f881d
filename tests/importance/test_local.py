"""l-MAS against each layer's own autograd (Eq. 5-7), and from forward passes only."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from judge import worst_error
from networks import live_in, module
from torch import nn
from twin import layerwise_importance

from avalanche_mas import estimate_local_importance


def layer_importance(layer, y):
    """The mean of ½ |∂‖F_l(y_k)‖²/∂θ_l|, by autograd through this layer alone, given its input."""
    parameters = dict(layer.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for k in range(len(y)):
        norm = layer(y[k : k + 1].detach()).pow(2).sum()
        for name, g in zip(total, torch.autograd.grad(norm, parameters.values()), strict=True):
            total[name] += g.abs() / 2
    return {name: t / len(y) for name, t in total.items()}


def chain_importance(model, layers, x):
    """l-MAS of a Sequential whose slices ``layers`` are the layers.

    A layer's own parameters are those of its first module: a BatchNorm in it is a layer again.
    """
    truth = {}
    for start, stop in layers:
        inside = layer_importance(model[start:stop], model[:start](x))
        truth |= {name: t for name, t in inside.items() if name.startswith(f"{start}.")}
    return truth


def prepared(*layers):
    model = nn.Sequential(*layers).double().eval()
    live_in(model)
    return model


def vectors(n=7):
    return torch.randn(n, 5, dtype=torch.float64)


def images(n=4):
    return torch.randn(n, 3, 7, 6, dtype=torch.float64)


def test_relu_layer_is_hebbs_rule():
    """Eq. 7 to the letter: the mean of y_i·y_j, and of y_i for the bias, whose input is 1."""
    model = prepared(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU())
    x = vectors().abs()
    first = model[:2](x)
    second = model[2:](first)
    ours = estimate_local_importance(model, x, batch_size=3)
    truth = {
        "0.weight": torch.einsum("ki,kj->ij", first, x) / 7,
        "0.bias": first.mean(0),
        "2.weight": torch.einsum("ki,kj->ij", second, first) / 7,
        "2.bias": second.mean(0),
    }
    assert ours.samples == 7
    assert worst_error(ours, truth) < 1e-12


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, inplace=True), nn.GELU(),
    nn.GELU("tanh"), nn.Tanh(), nn.Sigmoid(), nn.ELU(inplace=True), nn.CELU(), nn.SELU(),
    nn.SiLU(inplace=True), nn.Mish(), nn.Softplus(), nn.Softsign(), nn.LogSigmoid(),
    nn.Tanhshrink(), nn.ReLU6(inplace=True), nn.Hardtanh(-0.5, 0.5), nn.Hardsigmoid(),
    nn.Hardswish(), nn.Threshold(0.1, 0.0), nn.Hardshrink(), nn.Softshrink(), nn.RReLU(),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activation_belongs_to_the_layer_before(activation):
    model = prepared(nn.Linear(5, 6), activation, nn.Linear(6, 4))
    x = vectors()
    ours = estimate_local_importance(model, x, batch_size=4)
    assert worst_error(ours, chain_importance(model, [(0, 2), (2, 3)], x)) < 1e-10


CHAINS = {
    "no activation": (lambda: [nn.Linear(5, 6), nn.Linear(6, 4)], [(0, 1), (1, 2)], vectors),
    "convolution": (
        lambda: [
            nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 2, groups=2, dilation=2), nn.Tanh(),
            nn.ConvTranspose2d(6, 2, 2), nn.Flatten(), nn.Linear(12, 3), nn.ReLU(),
        ],
        [(0, 2), (2, 4), (4, 5), (6, 8)],
        images,
    ),
    "identity between": (
        lambda: [nn.Linear(5, 6), nn.Identity(), nn.ReLU(), nn.Linear(6, 2)], [(0, 3), (3, 4)],
        vectors,
    ),
    "dropout between": (
        lambda: [nn.Linear(5, 6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 2)], [(0, 3), (3, 4)],
        vectors,
    ),
    "sequence": (
        lambda: [nn.Linear(5, 6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 4), nn.ReLU()],
        [(0, 2), (2, 3), (3, 5)],
        lambda: torch.randn(4, 4, 5, dtype=torch.float64),
    ),
    "signed input": (
        lambda: [nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.ReLU()], [(0, 2), (2, 4)], vectors
    ),
}  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("name", CHAINS)
def test_chain_of_layers(name, batch_size):
    layers, slices, data = CHAINS[name]
    model, x = prepared(*layers()), data()
    ours = estimate_local_importance(model, x, batch_size=batch_size)
    assert worst_error(ours, chain_importance(model, slices, x)) < 1e-10


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.Tanh(), nn.Identity()], ids=repr)
def test_batchnorm_between_layer_and_activation(affine, activation):
    """The BatchNorm and its activation belong to the layer; the BatchNorm is a layer too."""
    norm = nn.BatchNorm2d(4, affine=affine)
    model = prepared(nn.Conv2d(3, 4, 3), norm, activation, nn.Flatten(), nn.Linear(80, 2))
    x = images()
    truth = chain_importance(model, [(0, 3), (4, 5)], x)
    if affine:
        truth |= chain_importance(model, [(1, 3)], x)
    assert worst_error(estimate_local_importance(model, x, batch_size=3), truth) < 1e-10


def test_layer_used_twice():
    """Both uses belong to one absolute value."""

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))

    model = module(forward, layer=nn.Linear(5, 5)).double()
    x = vectors()
    with torch.no_grad():
        between = torch.tanh(model.layer(x))
    truth = {name: torch.zeros_like(p) for name, p in model.layer.named_parameters()}
    for k in range(len(x)):
        norm = torch.tanh(model.layer(x[k])).pow(2).sum() + model.layer(between[k]).pow(2).sum()
        for name, g in zip(truth, torch.autograd.grad(norm, model.layer.parameters()), strict=True):
            truth[name] += g.abs() / 2 / len(x)
    ours = estimate_local_importance(model, x, batch_size=3)
    assert worst_error(ours, {f"layer.{name}": omega for name, omega in truth.items()}) < 1e-10


def test_layer_used_twice_and_overwritten_after_each_use():
    def forward(self, x):
        for _ in range(2):
            y = torch.relu_(self.layer(x))
            y += x
            x = y
        return x

    model, x = module(forward, layer=nn.Linear(5, 5)).double(), vectors()
    truth, _ = layerwise_importance(model, x)
    assert worst_error(estimate_local_importance(model, x), truth) < 1e-10


def test_residual_sum_is_no_activation():
    def forward(self, x):
        return F.relu(self.b(F.relu(self.a(x))) + x)

    model = module(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 5)).double()
    x = vectors()
    truth = {
        f"a.{n}": t for n, t in layer_importance(nn.Sequential(model.a, nn.ReLU()), x).items()
    } | {f"b.{n}": t for n, t in layer_importance(model.b, F.relu(model.a(x))).items()}
    truth = {name.replace("a.0.", "a."): omega for name, omega in truth.items()}
    assert worst_error(estimate_local_importance(model, x), truth) < 1e-10


def test_positions_before_samples():
    """A hand-written (T·B) flatten is noticed, and measured one sample at a time."""

    def forward(self, x):
        h = x.transpose(0, 1).reshape(-1, 5)
        return torch.tanh(self.layer(h)).view(x.shape[1], x.shape[0], 6).mean(0)

    model = module(forward, layer=nn.Linear(5, 6)).double()
    x = torch.randn(5, 4, 5, dtype=torch.float64)
    truth = layer_importance(nn.Sequential(model.layer, nn.Tanh()), x)
    truth = {name.replace("0.", "layer."): omega for name, omega in truth.items()}
    assert worst_error(estimate_local_importance(model, x), truth) < 1e-10


def test_parameters_without_a_layer_are_zero_and_named():
    def forward(self, x):
        return self.layer(x) * self.scale

    parts = {"layer": nn.Linear(5, 4), "scale": nn.Parameter(torch.ones(4))}
    model = module(forward, **parts)
    with pytest.warns(UserWarning, match=r"no layer for these parameters.*scale \(") as caught:
        ours = estimate_local_importance(model, torch.randn(6, 5), batch_size=2)
    assert len(caught) == 1, "once, not for every batch"
    assert not ours["scale"].any()
    assert ours["layer.weight"].any()


def test_no_warning_without_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate_local_importance(prepared(nn.Linear(5, 4), nn.BatchNorm1d(4)), vectors())


def test_unused_and_frozen_parameters():
    model = module(lambda self, x: self.used(x), used=nn.Linear(5, 4), unused=nn.Linear(5, 4))
    model.used.weight.requires_grad_(False)
    ours = estimate_local_importance(model, torch.randn(6, 5))
    assert set(ours) == {"used.bias", "unused.weight", "unused.bias"}
    assert not ours["unused.weight"].any()
    assert ours["used.bias"].any()


class _ForwardOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, delta):
        raise AssertionError("a backward pass")


def test_never_runs_the_network_backwards():
    def forward(self, x):
        return self.b(_ForwardOnly.apply(torch.relu(self.a(x))))

    model = module(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3))
    ours = estimate_local_importance(model, torch.randn(6, 5))
    assert ours["a.weight"].any()
    assert ours["b.weight"].any()


def test_builds_no_graph_of_the_network():
    """Activations need no gradient, except in the passes that probe two and three samples."""
    seen = []

    def forward(self, x):
        y = self.b(torch.relu(self.a(x)))
        seen.append((len(x), y.requires_grad))
        return y

    model = module(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3))
    estimate_local_importance(model, torch.randn(8, 5))
    assert (8, False) in seen
    assert (8, True) not in seen


def test_is_another_measure_than_global_mas():
    from avalanche_mas import estimate_importance

    model = prepared(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
    x = vectors()
    local, whole = estimate_local_importance(model, x), estimate_importance(model, x)
    torch.testing.assert_close(local["2.weight"] * 2, whole["2.weight"])  # the last layer is alone
    assert worst_error(local, whole) > 0.1
