"""Rules of the less common operations: bilinear maps, RMS norm and bags of embeddings."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import naive_importance, worst_error
from networks import module
from torch import nn

from avalanche_mas import check_model, estimate_importance, estimate_local_importance
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.parameters import zeros
from avalanche_mas.importance.rules import registry
from avalanche_mas.importance.rules.embedding import embedding_bag

EXACT = 1e-10
B = 5


def unruled(model, x):
    """Parameters that the exact engine leaves to the slow ones: name → why."""
    network = Network(model.eval(), lambda model, batch: model(batch))
    engine = Exact(network, network.trainable())
    engine(x, zeros(engine.parameters))
    return engine.unruled


def assert_exact(model, x, batch_size=3):
    ours = estimate_importance(model, x, engine="exact", batch_size=batch_size)
    assert worst_error(ours, naive_importance(model, x)) < EXACT


# --- bilinear -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (4,), (5, 2)], ids=str)
def test_bilinear_equals_torch_and_is_exact(shape, bias):
    def forward(self, x):
        return self.layer(torch.tanh(self.before(x)), x[..., :2]).flatten(1)

    parts = {"before": nn.Linear(3, 4), "layer": nn.Bilinear(4, 2, 6, bias=bias)}
    model = module(forward, **parts).double()
    x = torch.randn(B, *shape, 3).double()
    a, b = torch.randn(B, *shape, 4).double(), torch.randn(B, *shape, 2).double()
    parts = registry.find_decomposition(torch.bilinear)
    ours = parts(a, b, model.layer.weight, model.layer.bias)
    torch.testing.assert_close(ours, model.layer(a, b), rtol=1e-12, atol=1e-12)
    assert_exact(model, x)
    assert not unruled(model, x)


def test_bilinear_with_samples_in_another_dimension():
    def forward(self, x):
        y = x.transpose(0, 1)
        return self.layer(y, y).transpose(0, 1)

    model = module(forward, layer=nn.Bilinear(3, 3, 2)).double()
    assert_exact(model, torch.randn(B, B, 3).double())
    assert not unruled(model, torch.randn(B, B, 3).double())


def test_bilinear_with_weights_laid_out_otherwise():
    """Its weight cannot be seen as a matrix without a copy."""
    weight = nn.Parameter(torch.randn(3, 4, 2).double().permute(2, 0, 1))
    model = module(
        lambda self, x: F.bilinear(x, self.other(x), self.weight),
        other=nn.Linear(3, 4).double(),
        weight=weight,
    )
    assert_exact(model, torch.randn(B, 3).double())


def test_bilinear_is_a_layer_of_local_mas():
    layer = nn.Bilinear(3, 3, 4).double()
    model = module(lambda self, x: torch.relu(self.layer(x, x)), layer=layer)
    x = torch.randn(B, 3).double()
    ours = estimate_local_importance(model, x, batch_size=3)
    y = torch.relu(layer(x, x)).detach()
    truth = {
        "layer.weight": torch.einsum("ko,ki,kj->koij", y, x, x).abs().mean(0),
        "layer.bias": y.mean(0),
    }
    assert worst_error(ours, truth) < EXACT


# --- RMS norm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [None, 0.1])
@pytest.mark.parametrize("dims", [1, 2])
def test_rms_norm(dims, eps):
    def forward(self, x):
        return self.norm(torch.tanh(self.before(x))).flatten(1)

    norm = nn.RMSNorm((4, 6)[-dims:], eps=eps)
    nn.init.normal_(norm.weight)
    model = module(forward, before=nn.Linear(3, 6), norm=norm).double()
    x = torch.randn(B, 5, 4, 3).double()
    assert_exact(model, x)
    assert not unruled(model, x)


def test_rms_norm_with_samples_in_another_dimension():
    norm = nn.RMSNorm(3).double()
    nn.init.normal_(norm.weight)
    model = module(lambda self, x: self.norm(x.transpose(0, 1)).transpose(0, 1), norm=norm)
    assert_exact(model, torch.randn(B, B, 3).double())
    assert not unruled(model, torch.randn(B, B, 3).double())


def test_rms_norm_is_a_layer_of_local_mas():
    norm = nn.RMSNorm(4).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(B, 4).double()
    ours = estimate_local_importance(nn.Sequential(norm, nn.ReLU()), x, batch_size=3)
    normalised = F.rms_norm(x, (4,))
    truth = {"0.weight": (torch.relu(norm(x)).detach() * normalised).abs().mean(0)}
    assert worst_error(ours, truth) < EXACT


# --- bags of embeddings ---------------------------------------------------------------------------

WORDS = 7


class Bags(nn.Module):
    """A bag for every sample, or several, each word with a weight of its own if asked for."""

    def __init__(self, mode, padding, weighted, bags):
        super().__init__()
        self.bag = nn.EmbeddingBag(WORDS, 3, mode=mode, padding_idx=padding)
        nn.init.normal_(self.bag.weight)  # the row of the padding too
        self.position = nn.Linear(WORDS, WORDS) if weighted else None
        self.bags = bags

    def forward(self, tokens):
        weights = None
        if self.position is not None:
            scores = self.position(F.one_hot(tokens, WORDS).to(self.position.weight))
            weights = scores.sum(-1).view(self.bags * len(tokens), -1)
        summed = self.bag(tokens.view(self.bags * len(tokens), -1), per_sample_weights=weights)
        return torch.tanh(summed.view(len(tokens), -1))


@settings(max_examples=60)
@given(
    mode=st.sampled_from(["sum", "mean", "max"]),
    padding=st.sampled_from([None, 0, 3, WORDS - 1]),
    weighted=st.booleans(),
    bags=st.sampled_from([1, 2]),
    length=st.integers(1, 6),
    batch_size=st.sampled_from([1, 3, 5]),
)
def test_bags(mode, padding, weighted, bags, length, batch_size):
    torch.manual_seed(length)
    model = Bags(mode, padding, weighted and mode == "sum", bags).double()
    tokens = torch.randint(0, WORDS, (B, length * bags))
    if padding is not None:
        tokens[0] = padding  # bags with nothing in them
        tokens[-1, 0] = (padding + 1) % WORDS
    assert_exact(model, tokens, batch_size)
    assert not unruled(model, tokens)


def test_bag_touches_only_the_rows_that_occur():
    """Not a table for every sample: 50 000 words × 9 samples would be 3.6 million numbers."""
    table = nn.Parameter(torch.randn(50_000, 8).double())
    model = module(lambda self, x: F.embedding_bag(x, self.table), table=table)
    tokens = torch.randint(0, 50_000, (9, 4))
    seen = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                seen.append(result.numel())
            return result

    network = Network(model, lambda model, batch: model(batch))
    engine = Exact(network, network.trainable())
    total = zeros(engine.parameters)
    engine(tokens, total)
    with Sizes():
        engine(tokens, total)
    assert max(seen) <= table.numel()


def _offsets(self, tokens):
    count, length = tokens.shape
    starts = torch.arange(0, count * length, length)
    return self.bag(tokens.flatten(), starts)


@pytest.mark.parametrize(
    ("options", "forward"),
    [
        ({}, _offsets),
        ({"max_norm": 1.0}, lambda self, tokens: self.bag(tokens)),
        ({"scale_grad_by_freq": True, "mode": "sum"}, lambda self, tokens: self.bag(tokens)),
    ],
    ids=["offsets", "max_norm", "scale_grad_by_freq"],
)
def test_bags_that_the_rule_refuses(options, forward):
    model = module(forward, bag=nn.EmbeddingBag(WORDS, 3, **options)).double()
    if "max_norm" in options:  # rows that have been used once are no longer changed
        model(torch.arange(WORDS).view(1, -1))
    tokens = torch.randint(0, WORDS, (B, 4))
    assert_exact(model, tokens)
    assert check_model(model, tokens).measured["bag.weight"] != "rule"


def test_every_bag_option_is_known_to_the_rule():
    """The rule takes the arguments of torch's function, in their order."""
    import inspect

    ours = list(inspect.signature(embedding_bag).parameters)[1:]
    assert ours == list(inspect.signature(F.embedding_bag).parameters)
