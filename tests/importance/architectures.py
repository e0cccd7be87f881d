"""Well-known networks of torchvision at small inputs and with few classes, layer for layer."""

from collections.abc import Callable

import torch
import torchvision.models as zoo
from networks import Case
from torch import nn

ARCHITECTURES: dict[str, Case] = {}


def _architecture(
    make: Callable[[], nn.Module],
    pixels: tuple[int, int],
    samples: int = 3,
    vmap: tuple[str, ...] = (),
) -> Case:
    return Case(
        lambda: (make(), torch.randn(samples, 3, *pixels)), ways=dict.fromkeys(vmap, "vmap")
    )


ARCHITECTURES |= {
    "alexnet": _architecture(lambda: zoo.alexnet(num_classes=3), (63, 79)),
    "resnet18": _architecture(lambda: zoo.resnet18(num_classes=4), (64, 40)),
    "densenet121": _architecture(lambda: zoo.densenet121(num_classes=4), (40, 64)),
    "mobilenet_v2": _architecture(lambda: zoo.mobilenet_v2(num_classes=4), (64, 40)),
    "mobilenet_v3_small": _architecture(lambda: zoo.mobilenet_v3_small(num_classes=4), (40, 64)),
    "efficientnet_b0": _architecture(lambda: zoo.efficientnet_b0(num_classes=4), (64, 40)),
    "convnext_tiny": _architecture(
        lambda: zoo.convnext_tiny(num_classes=4), (64, 40), vmap=("*.layer_scale",)
    ),
    "vit": _architecture(
        lambda: zoo.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4),
        (32, 32),
        vmap=("class_token", "encoder.pos_embedding"),
    ),
    # 8 × 12 patches in windows of 7 × 7: shifted, and padded
    "swin_t": _architecture(
        lambda: zoo.swin_t(num_classes=4), (32, 48), vmap=("*.relative_position_bias_table",)
    ),
}
