"""What the frozen part of the pretrained network makes of pictures, computed once and kept."""

from __future__ import annotations

import hashlib

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from avalanche_mas.models.efficientnet import FROZEN_BLOCKS, frozen_part

from ..runs.cache import cache_folder
from ..runs.store import write_whole


@torch.no_grad()
def frozen_features(images: Tensor) -> Tensor:
    """Let images go through the frozen part; those that went before are looked up.

    They are known by their very values, so nothing that is kept can be out of date.

    :param images: (N, 3, H, W), H and W multiples of 32, normalised.
    :return: (N, 80, H / 16, W / 16).
    """
    key = hashlib.sha256(f"{FROZEN_BLOCKS} {tuple(images.shape)}".encode())
    key.update(images.numpy().tobytes())
    file = cache_folder("features") / f"{key.hexdigest()}.safetensors"
    if file.is_file():
        return load_file(file)["features"]
    held = frozen_part()
    features = torch.cat([held(batch) for batch in torch.split(images, 64)]).contiguous()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, save({"features": features}))
    return features
