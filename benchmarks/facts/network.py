"""The network of an experiment on facts, by the name that the command line has for it."""

from __future__ import annotations

from avalanche_mas.models import FactNetwork, fact_small, fact_vgg16
from avalanche_mas.models.efficientnet import trained_part
from avalanche_mas.models.fact_network import fact_branches

_HELD = 10  # modules of VGG-16's first two blocks of convolutions, which published code holds


def make_network(name: str, dim: int) -> FactNetwork:
    """Make a network that was trained on ImageNet, or an untrained one.

    :param name: ``pretrained``, without its frozen part; ``small``; ``vgg16`` with torchvision's
        weights, or a file of such weights.
    :param dim: numbers for each unit of a fact.
    :raises ImportError: if the pretrained network's weights are not installed.
    :raises ValueError: if the file does not exist, or does not fit.
    :raises ConnectionError: if the weights cannot be downloaded.
    """
    if name == "pretrained":
        return fact_branches(trained_part(), dim)
    if name == "small":
        return fact_small(dim)
    network = fact_vgg16("IMAGENET1K_V1" if name == "vgg16" else name, dim=dim)
    network.trunk[:_HELD].requires_grad_(False)  # type: ignore[index]
    return network
