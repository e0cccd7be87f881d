"""Ω is accumulated in float32 for half-precision networks, and in float64 for float64 ones."""

import pytest
import torch
from judge import naive_importance, worst_error
from networks import build

from avalanche_mas import estimate_importance, estimate_local_importance

ENGINES = ["exact", "vmap", "loop", "batch"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dtype_of_importance(engine, dtype):
    model, data = build("mlp", dtype)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    ours = estimate_importance(model, data, engine=engine)
    assert {omega.dtype for omega in ours.values()} == {expected}
    ours = estimate_local_importance(model, data)
    assert {omega.dtype for omega in ours.values()} == {expected}


@pytest.mark.parametrize("engine", ["exact", "vmap", "loop"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("name", ["mlp", "batchnorm2d", "layer_used_thrice"])
def test_half_precision_is_close_to_float32(name, engine, dtype, bound):
    model, data = build(name, dtype)
    ours = estimate_importance(model, data, engine=engine)
    truth = naive_importance(model.float(), data.float())
    assert worst_error(ours, truth) < bound


@pytest.mark.parametrize("engine", ["exact", "loop"])
def test_many_small_contributions_are_not_lost(engine):
    """A bfloat16 sum stops growing at 256 equal terms; the mean of 2,000 must not."""
    model = torch.nn.Linear(1, 1, bias=False).bfloat16()
    torch.nn.init.ones_(model.weight)
    ours = estimate_importance(model, torch.ones(2000, 1).bfloat16(), engine=engine)
    assert float(ours["weight"]) == 2.0


@pytest.mark.parametrize("name", ["mlp", "residual", "language_model_batch_first"])
def test_float32_is_close_to_float64(name):
    model, data = build(name, torch.float32)
    ours = estimate_importance(model, data)
    data = data.double() if data.is_floating_point() else data
    assert worst_error(ours, naive_importance(model.double(), data)) < 1e-4


def test_default_dtype_does_not_matter():
    model, data = build("mlp", torch.float32)
    before = estimate_importance(model, data)
    torch.set_default_dtype(torch.float64)
    after = estimate_importance(model, data)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_parameters_of_two_dtypes():
    def forward(self, x):
        return self[1](torch.tanh(self[0](x)).double())

    class Mixed(torch.nn.Sequential):
        pass

    Mixed.forward = forward
    model = Mixed(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2).double())
    ours = estimate_importance(model, torch.randn(5, 4))
    assert ours["0.weight"].dtype == torch.float32
    assert ours["1.weight"].dtype == torch.float64
    assert ours["0.weight"].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["mlp", "batchnorm2d", "transformer_encoder_batch_first"])
def test_under_autocast(name, dtype):
    """Operations run in half precision, Ω is added up in float32."""
    model, data = build(name, torch.float32)
    truth = naive_importance(model, data)
    with torch.autocast("cpu", dtype):
        ours = estimate_importance(model, data)
    assert {omega.dtype for omega in ours.values()} == {torch.float32}
    assert worst_error(ours, truth) < (0.04 if dtype == torch.bfloat16 else 5e-3)
