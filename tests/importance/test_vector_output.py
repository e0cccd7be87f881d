"""output="vector": the norm of each parameter's gradient vector over all outputs (section 4.1)."""

import pytest
import torch
from judge import naive_importance, worst_error
from networks import build
from torch import nn

from avalanche_mas import estimate_importance

NETWORKS = ["mlp", "batchnorm2d", "layer_used_thrice", "unused_parameters", "frozen_parameters"]
MORE = ["dict_output", "tuple_output", "class_token_expanded", "embedding", "lstm"]


@pytest.mark.parametrize("batch_size", [1, 7, 9])
@pytest.mark.parametrize("engine", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("name", NETWORKS + MORE)
def test_equals_the_judge(name, engine, batch_size):
    if (name, engine) == ("lstm", "vmap"):
        pytest.skip("vmap cannot transform an LSTM")
    model, data = build(name)
    truth = naive_importance(model, data, output="vector")
    ours = estimate_importance(model, data, output="vector", engine=engine, batch_size=batch_size)
    assert worst_error(ours, truth) < 1e-10


def test_linear_layer_by_hand():
    """∂(Wx)_c/∂W_ci = x_i and zero for the other rows, so every row of Ω is the mean of |x|."""
    layer = nn.Linear(4, 3, bias=False).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    ours = estimate_importance(layer, x, output="vector")["weight"]
    torch.testing.assert_close(ours, x.abs().mean(0).expand(3, 4))


def test_is_not_the_norm():
    model, data = build("mlp")
    norm, vector = (estimate_importance(model, data, output=o) for o in ("norm", "vector"))
    assert worst_error(norm, vector) > 0.1
