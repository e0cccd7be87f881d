"""Heads on torchvision's networks, and weights from files."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from avalanche_mas.models import MultiHead, multi_head, multi_head_alexnet, multi_head_small
from avalanche_mas.models.pretrained import pretrained

LAST = {
    "alexnet": "classifier.6",
    "resnet18": "fc",
    "vgg11": "classifier.6",
    "densenet121": "classifier",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "efficientnet_b0": "classifier.1",
    "convnext_tiny": "classifier.2",
    "vit_b_16": "heads.head",
    "swin_t": "head",
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_linear_layer_is_found(name):
    with torch.device("meta"):
        original = get_model(name)
        last = original.get_submodule(LAST[name])
        others = {n for n, _ in original.named_parameters() if not n.startswith(LAST[name] + ".")}
        model = multi_head(original)
        x = torch.empty(2, 3, 224, 224)
        assert model.trunk(x).shape == (2, last.in_features)
    assert isinstance(original.get_submodule(LAST[name]), nn.Identity)
    assert {n.removeprefix("trunk.") for n, _ in model.named_parameters()} == others


def test_the_shared_part_computes_what_it_did():
    original = get_model("resnet18", num_classes=4).eval()
    x = torch.randn(2, 3, 32, 32)
    expected, last = original(x), original.fc
    model = multi_head(original).eval()
    model.heads.classifiers["0"] = last
    assert torch.equal(model(x, 0), expected)


def test_a_layer_can_be_named():
    model = multi_head(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), layer="2")
    assert model.heads.in_features == 3
    assert (
        multi_head(nn.Sequential(nn.Linear(4, 3), nn.Flatten()), layer="0").heads.in_features == 4
    )


def test_networks_without_a_last_linear_layer_are_refused():
    with pytest.raises(ValueError, match="Sequential has no linear layer"):
        multi_head(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()))
    with pytest.raises(ValueError, match="'fc' is no linear layer of the model; there are 0, 1"):
        multi_head(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), layer="fc")
    with torch.device("meta"):
        model = multi_head(get_model("googlenet", init_weights=False))
        with pytest.raises(TypeError, match=r"returned a GoogLeNetOutputs .*aux_logits=False"):
            model(torch.empty(2, 3, 224, 224), 0)


def test_alexnet_and_the_small_network():
    with torch.device("meta"):
        alexnet = multi_head_alexnet(weights=None)
        assert alexnet.trunk(torch.empty(2, 3, 224, 224)).shape == (2, 4096)
    assert alexnet.heads.in_features == 4096
    small = multi_head_small()
    assert isinstance(small, MultiHead)
    for side in (16, 64):
        assert small.trunk(torch.randn(2, 3, side, side)).shape == (2, small.heads.in_features)


def test_weights_from_a_file(tmp_path):
    name = "shufflenet_v2_x0_5"
    original = get_model(name)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    for path in (tmp_path / "weights.pth", str(tmp_path / "weights.pth")):
        loaded = pretrained(name, path).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in original.state_dict().items())
    with pytest.raises(ValueError, match=r"weights\.pth does not hold the weights of .*resnet18"):
        pretrained("resnet18", tmp_path / "weights.pth")
    partial = original.state_dict()
    del partial["fc.bias"]
    torch.save(partial, tmp_path / "partial.pth")
    with pytest.raises(ValueError, match=r"partial\.pth does not hold"):
        pretrained(name, tmp_path / "partial.pth")


def test_weights_that_do_not_exist():
    with pytest.raises(ValueError, match=r"'IMAGENET' is no file.*called IMAGENET1K_V1"):
        multi_head_alexnet("IMAGENET")


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing listens
    with pytest.raises(ConnectionError, match=r"https://.*\.pth.* pass its path as weights"):
        pretrained("shufflenet_v2_x0_5", "IMAGENET1K_V1")
