"""Torchvision's classifiers: the smallest member of every family, on small images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from ..case import SAMPLES, Batch, Case

# Name → side of the image in pixels, and options that keep weights and time small.
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "alexnet": (64, {}),
    "convnext_tiny": (64, {}),
    "densenet121": (64, {}),
    "efficientnet_b0": (64, {}),
    "efficientnet_v2_s": (64, {}),
    "googlenet": (64, {"aux_logits": False, "init_weights": False}),
    "inception_v3": (80, {"aux_logits": False, "init_weights": False}),
    "maxvit_t": (224, {}),
    "mnasnet0_5": (64, {}),
    "mobilenet_v2": (64, {}),
    "mobilenet_v3_small": (64, {}),
    "regnet_x_400mf": (64, {}),
    "regnet_y_400mf": (64, {}),
    "resnet18": (64, {}),
    "resnet50": (64, {}),
    "resnext50_32x4d": (64, {}),
    "shufflenet_v2_x0_5": (64, {}),
    "squeezenet1_1": (64, {}),
    "swin_t": (64, {}),
    "swin_v2_t": (64, {}),
    "vgg11": (32, {}),
    "vgg11_bn": (32, {}),
    "vit_b_32": (64, {"image_size": 64}),
    "wide_resnet50_2": (32, {}),
}


def cases() -> Iterator[Case]:
    """One for each network."""
    for name, (pixels, options) in NETWORKS.items():
        yield Case("torchvision", name, partial(_build, name, pixels, options))


def _build(name: str, pixels: int, options: dict[str, Any]) -> tuple[nn.Module, Batch]:
    from torchvision import models

    model = models.get_model(name, weights=None, num_classes=4, **options)
    if isinstance(model, models.AlexNet | models.VGG):
        _narrow(model.classifier)
    return model, torch.randn(SAMPLES, 3, pixels, pixels)


def _narrow(classifier: nn.Sequential) -> None:
    """32 hidden units instead of 4,096, which hold most of the parameters."""
    for k, layer in enumerate(classifier):
        if isinstance(layer, nn.Linear):
            inputs, outputs = (
                32 if n == 4096 else n for n in (layer.in_features, layer.out_features)
            )
            classifier[k] = nn.Linear(inputs, outputs)
