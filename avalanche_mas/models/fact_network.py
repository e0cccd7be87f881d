"""Networks that embed an image as a fact: its subject, its predicate and its object."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from avalanche_mas.models.efficientnet import FROZEN_BLOCKS, efficientnet_lite0, split
from avalanche_mas.models.pretrained import Weights, pretrained
from avalanche_mas.models.small import FEATURES, small_trunk

_POOL3 = 17  # modules of VGG-16 up to its third pooling


class FactNetwork(nn.Module):
    """A shared trunk that forks into branches for subject, predicate and object.

    There are no heads, so facts of all tasks are learnt by the same parameters. The output is one
    vector, so that MAS measures ‖F‖² over all of it, whatever units a fact has (Eq. 2).

    :param trunk: image → features.
    :param branches: name → features → vectors; together they give the blocks S, P, O in this order.
    """

    def __init__(self, trunk: nn.Module, branches: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleDict(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        :param x: shape (B, 3, H, W).
        :return: shape (B, 3d), the blocks S, P and O one after the other.
        """
        features = self.trunk(x)
        return torch.cat([branch(features) for branch in self.branches.values()], dim=1)


def fact_vgg16(
    weights: Weights = None, *, fork: Literal["fc7", "pool3"] = "fc7", dim: int = 300
) -> FactNetwork:
    """VGG-16 that forks into subject, predicate and object.

    With ``fork="fc7"`` the last fully connected layer forks into three, as the MAS paper says.
    With ``"pool3"`` subject and predicate-object part after the third pooling, as in Sherlock
    (Elhoseiny et al., AAAI 2017); the second branch gives P and O. There both start from the same
    ``weights``, and the network is twice as large.

    The last layers start as in Sherlock: N(0, 0.005²), and bias 1. The published codes hold the
    first two blocks of convolutions: ``network.trunk[:10].requires_grad_(False)`` does so.

    :param weights: of the layers before the last: None for random ones, ``"IMAGENET1K_V1"``, or the
        path of a state dict of torchvision's ``vgg16``.
    :param fork: where.
    :param dim: d, numbers per unit.
    :return: images (B, 3, 224, 224) → (B, 3d).
    :raises ValueError: for another fork, or weights that do not exist or do not fit.
    """
    if fork not in ("fc7", "pool3"):
        raise ValueError(f"fork must be 'fc7' or 'pool3', got {fork!r}")
    layers = _layers_of_vgg16(weights)
    if fork == "fc7":
        return FactNetwork(layers, {unit: _last(dim) for unit in "SPO"})
    again = _layers_of_vgg16(weights)
    branches = {
        "S": nn.Sequential(*layers[_POOL3:], _last(dim)),
        "PO": nn.Sequential(*again[_POOL3:], _last(2 * dim)),
    }
    return FactNetwork(layers[:_POOL3], branches)


def fact_pretrained(dim: int = 300, frozen: int = FROZEN_BLOCKS) -> FactNetwork:
    """EfficientNet-Lite0 with ImageNet's weights, as ``multi_head_pretrained``, and three branches.

    :param dim: d, numbers per unit.
    :param frozen: how many of the 16 blocks are held, with the stem; 0: nothing is.
    :return: images (B, 3, H, W), H and W multiples of 32, → (B, 3d).
    :raises ImportError: if the weights are not installed.
    :raises ValueError: if there are not so many blocks.
    """
    network = efficientnet_lite0()
    split(network, frozen)
    return fact_branches(network, dim)


def fact_branches(network: nn.Sequential, dim: int) -> FactNetwork:
    """Puts branches for subject, predicate and object in the place of a network's last layer.

    :param network: it ends in a linear layer.
    :param dim: d, numbers per unit.
    """
    *trunk, last = network
    assert isinstance(last, nn.Linear)
    branches = {unit: nn.Linear(last.in_features, dim) for unit in "SPO"}
    return FactNetwork(nn.Sequential(*trunk), branches)


def fact_small(dim: int = 300) -> FactNetwork:
    """Three convolutions, a fully connected layer and three branches: for a CPU and small images.

    :param dim: d, numbers per unit.
    :return: images (B, 3, H, W), H and W at least 16, → (B, 3d).
    """
    return FactNetwork(small_trunk(), {unit: nn.Linear(FEATURES, dim) for unit in "SPO"})


def _layers_of_vgg16(weights: Weights) -> nn.Sequential:
    """All layers of VGG-16 but the last."""
    features, pool, classifier = pretrained("vgg16", weights).children()
    return nn.Sequential(
        *features.children(), pool, nn.Flatten(), *list(classifier.children())[:-1]
    )


def _last(outputs: int) -> nn.Linear:
    layer = nn.Linear(4096, outputs)
    nn.init.normal_(layer.weight, std=0.005)
    nn.init.ones_(layer.bias)
    return layer
