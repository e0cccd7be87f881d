"""The network of an experiment on facts, by the name that the command line has for it."""

from __future__ import annotations

from avalanche_mas.models import FactNetwork, fact_small, fact_vgg16

_HELD = 10  # modules of VGG-16's first two blocks of convolutions, which published code holds


def make_network(name: str, dim: int) -> FactNetwork:
    """Make an untrained network, or one that was trained on ImageNet.

    :param name: ``small``, ``vgg16`` with torchvision's weights, or a file of such weights.
    :param dim: numbers for each unit of a fact.
    :raises ValueError: if the file does not exist, or does not fit.
    :raises ConnectionError: if the weights cannot be downloaded.
    """
    if name == "small":
        return fact_small(dim)
    network = fact_vgg16("IMAGENET1K_V1" if name == "vgg16" else name, dim=dim)
    network.trunk[:_HELD].requires_grad_(False)  # type: ignore[index]
    return network
