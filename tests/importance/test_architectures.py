"""Exact on the networks that people use, and by rules wherever there are rules."""

import pytest
import torch
from architectures import ARCHITECTURES
from judge import naive_importance, worst_error
from networks import ZOO

from avalanche_mas import check_model, estimate_importance

EXACT = 1e-10


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exact(name):
    """In shuffled batches of unequal sizes."""
    case = ARCHITECTURES[name]
    model, data = case.build()
    truth = naive_importance(model, data)
    batches = data[torch.randperm(len(data))].split([2, len(data) - 2])
    ours = estimate_importance(model, batches, engine="exact")
    assert worst_error(ours, truth) < EXACT
    assert not case.surprises(check_model(model, data[:2])["measured"])


NAMED = """
    alexnet resnet18 densenet121 mobilenet_v2 mobilenet_v3_small efficientnet_b0 convnext_tiny
    vit swin_t transformer_encoder multihead_attention_bias_k_kdim lstm gru embedding_bag
    weight_norm weight_norm_by_hook spectral_norm tied_embeddings
"""


@pytest.mark.parametrize("promised", NAMED.split())
def test_what_is_promised_is_measured(promised):
    """Here or in test_exactness.py."""
    assert any(name.startswith(promised) for name in [*ARCHITECTURES, *ZOO])
