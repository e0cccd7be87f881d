"""A torchvision network with weights from torchvision or from a file."""

from os import PathLike
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

Weights = str | PathLike[str] | None
"""None for random weights, the name of torchvision's, or the path of a state dict."""


def pretrained(name: str, weights: Weights) -> nn.Module:
    """A network of torchvision.

    :param name: as for ``torchvision.models.get_model``.
    :param weights: None for random ones; a name such as ``"IMAGENET1K_V1"``, which torchvision
        downloads once; or the path of a file with the network's state dict.
    :return: the network, on the CPU.
    :raises ValueError: if ``weights`` is neither a known name nor a file, or if the file's tensors
        are not those of this network.
    :raises ConnectionError: if the weights cannot be downloaded.
    """
    entries = dict(get_model_weights(name).__members__)
    if weights is None:
        return _network(name)
    if weights in entries:
        entry = entries[str(weights)]
        try:
            return _network(name, weights=entry)
        except URLError as error:
            raise ConnectionError(
                f"cannot download {entry.url} ({error.reason}): fetch this file elsewhere and pass "
                "its path as weights"
            ) from error
    path = Path(weights)
    if not path.is_file():
        raise ValueError(
            f"weights={str(weights)!r} is no file, and torchvision's weights for {name} are called "
            f"{', '.join(entries)}"
        )
    network = _network(name)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of torchvision's {name}") from error
    return network


def _network(name: str, **options: object) -> nn.Module:
    network: nn.Module = get_model(name, **options)
    return network
