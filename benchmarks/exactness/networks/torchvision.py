"""Torchvision's classifiers: every family, on small images; the large ones thinner than shipped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from ..case import SAMPLES, Batch, Case

CLASSES = 4

# Name → side of the image in pixels, and options of the function that makes the network.
AS_SHIPPED: dict[str, tuple[int, dict[str, Any]]] = {
    "densenet121": (64, {}),
    "efficientnet_b0": (64, {}),
    "googlenet": (64, {"aux_logits": False, "init_weights": False}),
    "inception_v3": (80, {"aux_logits": False, "init_weights": False}),
    "mnasnet0_5": (64, {}),
    "mobilenet_v2": (64, {}),
    "mobilenet_v3_small": (64, {}),
    "regnet_x_400mf": (64, {}),
    "regnet_y_400mf": (64, {}),
    "resnet18": (64, {}),
    "shufflenet_v2_x0_5": (64, {}),
    "squeezenet1_1": (64, {}),
}

THIN = {
    "alexnet": 64,
    "convnext": 64,
    "efficientnet_v2": 64,
    "maxvit": 64,
    "resnext": 64,
    "swin": 64,
    "swin_v2": 64,
    "vgg11": 32,
    "vgg11_bn": 32,
    "vit": 64,
    "wide_resnet": 64,
}
"""Name → side of the image in pixels; :func:`_thin` makes them."""


def cases() -> Iterator[Case]:
    """One for each network."""
    for name, (pixels, options) in AS_SHIPPED.items():
        yield Case("torchvision", name, partial(_build, _as_shipped, name, pixels, options))
    for name, pixels in THIN.items():
        yield Case("torchvision", f"{name}, thin", partial(_build, _thin, name, pixels))


def _build(make: Any, name: str, pixels: int, *options: Any) -> tuple[nn.Module, Batch]:
    return make(name, *options), torch.randn(SAMPLES, 3, pixels, pixels)


def _as_shipped(name: str, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None, num_classes=CLASSES, **options)
    return model


def _thin(name: str) -> nn.Module:
    """A member of the family with few channels and blocks."""
    from torchvision.models import (
        MaxVit,
        ResNet,
        SwinTransformer,
        VisionTransformer,
        alexnet,
        vgg11,
        vgg11_bn,
    )
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig
    from torchvision.models.resnet import Bottleneck
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

    swin = partial(SwinTransformer, [4, 4], 16, [2, 2], [2, 4], [4, 4])
    bottleneck = partial(ResNet, Bottleneck, [1, 1, 1, 1])
    fused, depthwise = FusedMBConvConfig(2, 3, 1, 8, 16, 2), MBConvConfig(4, 3, 2, 16, 24, 2)
    makers = {
        "alexnet": partial(_narrow, alexnet),
        "convnext": partial(ConvNeXt, [CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 2)]),
        "efficientnet_v2": partial(EfficientNet, [fused, depthwise], 0.2, last_channel=64),
        "maxvit": partial(MaxVit, (64, 64), 16, 4, [16, 32], [1, 2], 16, 0.0),
        "resnext": partial(bottleneck, groups=8, width_per_group=4),
        "swin": swin,
        "swin_v2": partial(swin, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2),
        "vgg11": partial(_narrow, vgg11),
        "vgg11_bn": partial(_narrow, vgg11_bn),
        "vit": partial(VisionTransformer, 64, 16, 2, 4, 32, 64),
        "wide_resnet": partial(bottleneck, width_per_group=32),
    }
    model: nn.Module = makers[name](num_classes=CLASSES)
    return model


def _narrow(make: Any, num_classes: int) -> nn.Module:
    """With 32 hidden units in the classifier instead of 4,096, which hold most parameters."""
    model: nn.Module = make(num_classes=num_classes)
    classifier = model.get_submodule("classifier")
    for name, layer in classifier.named_children():
        if isinstance(layer, nn.Linear):
            inputs, outputs = layer.in_features, layer.out_features
            inputs, outputs = (32 if width == 4096 else width for width in (inputs, outputs))
            setattr(classifier, name, nn.Linear(inputs, outputs))
    return model
