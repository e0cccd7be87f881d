"""``output="vector"`` and ``"squares"``: norm and squares of ∂F/∂θ over outputs (section 4.1)."""

import pytest
import torch
from counting import work_of
from judge import naive_importance, worst_error
from networks import ZOO, build
from torch import nn
from torch.nn import functional

from avalanche_mas import estimate_importance
from avalanche_mas.importance.batches import call_model, model_input, take
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.parameters import zeros

FEW = ["mlp", "batchnorm2d", "layer_used_thrice", "unused_parameters", "frozen_parameters"]
FEW += ["dict_output", "tuple_output", "class_token_expanded", "embedding", "lstm"]


@pytest.mark.parametrize("batch_size", [1, 7, 9])
@pytest.mark.parametrize("output", ["vector", "squares"])
@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize("name", FEW)
def test_reference_engines_equal_the_judge(name, engine, output, batch_size):
    if (name, engine) == ("lstm", "vmap"):
        pytest.skip("vmap cannot transform an LSTM")
    model, data = build(name)
    truth = naive_importance(model, data, output=output)
    ours = estimate_importance(model, data, output=output, engine=engine, batch_size=batch_size)
    assert worst_error(ours, truth) < 1e-10


@pytest.mark.parametrize("output", ["vector", "squares"])
@pytest.mark.parametrize("name", ZOO)
def test_exact_engine_equals_the_judge(name, output):
    model, data = build(name)
    inputs = model_input(data) if isinstance(data, dict) else data
    truth = naive_importance(model, inputs, output=output)
    for batches in ([data], [take(data, slice(0, 4), 9), take(data, slice(4, 9), 9)]):
        ours = estimate_importance(model, batches, output=output)
        assert worst_error(ours, truth) < 1e-10


def test_linear_layer_by_hand():
    """∂(Wx)_c/∂W_ci = x_i and zero for the other rows, so every row of Ω is the mean of |x|."""
    layer = nn.Linear(4, 3, bias=False).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    ours = estimate_importance(layer, x, output="vector")["weight"]
    torch.testing.assert_close(ours, x.abs().mean(0).expand(3, 4))
    squares = estimate_importance(layer, x, output="squares")["weight"]
    torch.testing.assert_close(squares, x.square().mean(0).expand(3, 4))


def test_is_not_the_norm():
    model, data = build("mlp")
    norm, vector = (estimate_importance(model, data, output=o) for o in ("norm", "vector"))
    assert worst_error(norm, vector) > 0.1


def test_squares_of_the_log_likelihood_are_the_fisher_information():
    """Of softmax regression it is known in closed form: E_y (p − 1_y)² x²."""
    layer = nn.Linear(4, 3, bias=False).double()
    x = torch.randn(6, 4, dtype=torch.float64)

    def log_likelihoods(model, batch):
        log_p = functional.log_softmax(model(batch), 1)
        return log_p * log_p.detach().exp().sqrt()  # Σ_c p_c (∂ log p_c)²

    ours = estimate_importance(layer, x, output="squares", forward=log_likelihoods)["weight"]
    p = layer(x).softmax(1)
    expected = torch.einsum("ko,ki->oi", p * (1 - p), x * x) / len(x)
    torch.testing.assert_close(ours, expected)


def test_what_is_kept_of_each_sample_bounds_the_batch(monkeypatch):
    """Squares of a convolution's gradients are written out: fewer samples go through at a time."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3)).double()
    model, x = nn.Sequential(body), torch.randn(12, 2, 8, 8, dtype=torch.float64)
    parameters = 8 * 2 * 9 + 8 + 3  # the linear layer's weight is never written out
    monkeypatch.setattr(
        "avalanche_mas.importance.engines.plan.ACTIVATION_BYTES",
        5 * max(8 * parameters, 8 * 8 * 36),
    )
    network = Network(model, call_model)
    engine = Exact(network, network.trainable(), "vector")
    total = zeros(engine.parameters)
    engine(x, total)
    assert engine.record.sample_bytes == 8 * parameters
    passes = work_of(lambda: engine(x, total), model).passes
    assert passes[-3:] == [4, 4, 4]  # before them, samples apart
    truth = naive_importance(body, x, output="vector")
    ours = {name.removeprefix("0."): t / 24 for name, t in total.items()}
    assert worst_error(ours, truth) < 1e-10


def test_a_linear_network_needs_no_memory_for_gradients():
    model, data = build("mlp")
    network = Network(model, call_model)
    engine = Exact(network, network.trainable(), "vector")
    engine(data, zeros(engine.parameters))
    biases = [p for p in model.parameters() if p.dim() == 1]
    assert engine.record.sample_bytes == sum(p.nbytes for p in biases)
