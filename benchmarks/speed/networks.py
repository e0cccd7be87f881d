"""The networks that are measured, each with a batch of random samples; ten outputs each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn

OUTPUTS = 10


@dataclass(frozen=True)
class Case:
    """A network in eval mode, and samples for it on the same device.

    :param few: how many of the samples a way takes that holds one gradient for each of them.
    """

    network: str
    model: nn.Module
    x: Tensor  # (B, ...)
    few: int


@dataclass(frozen=True)
class Recipe:
    """How a case is made; the second of each pair is for a quick trial."""

    title: str
    build: Callable[[bool], nn.Module]
    sample: tuple[tuple[int, ...], tuple[int, ...]]  # the shape of one
    batch: tuple[int, int]
    few: tuple[int, int]


class Recurrent(nn.Module):
    """Two LSTM layers over a sequence (B, T, i), and a linear map of the last state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        output: Tensor = self.head(states[:, -1])
        return output


def mlp(hidden: int, inputs: int = 784) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, OUTPUTS),
    )


def cnn(channels: int) -> nn.Sequential:
    """Two convolutions for images of 32 px."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * channels, OUTPUTS),
    )


def _alexnet(quick: bool) -> nn.Module:
    model: nn.Module = torchvision.models.alexnet(num_classes=OUTPUTS)
    return model


def _resnet18(quick: bool) -> nn.Module:
    model: nn.Module = torchvision.models.resnet18(num_classes=OUTPUTS)
    side = 32 if quick else 224
    with torch.no_grad():
        model.train()(torch.randn(4, 3, side, side))  # moving statistics unlike 0 and 1
    return model


def _vit(quick: bool) -> nn.Module:
    sizes = (32, 16, 1, 2, 16, 32) if quick else (224, 16, 6, 6, 384, 1536)
    model = torchvision.models.VisionTransformer(*sizes, num_classes=OUTPUTS)
    nn.init.normal_(model.heads.head.weight, std=0.05)  # zero as shipped: nothing would matter
    made: nn.Module = model
    return made


_IMAGE = (3, 224, 224), (3, 32, 32)

NETWORKS = {
    "mlp": Recipe(
        "MLP", lambda quick: mlp(32 if quick else 1000), ((784,), (784,)), (256, 16), (64, 4)
    ),
    "alexnet": Recipe("AlexNet", _alexnet, ((3, 224, 224), (3, 64, 64)), (64, 2), (8, 2)),
    "resnet18": Recipe("ResNet-18", _resnet18, _IMAGE, (16, 2), (8, 2)),
    "vit": Recipe("ViT", _vit, _IMAGE, (16, 4), (8, 4)),
    "lstm": Recipe(
        "LSTM",
        lambda quick: Recurrent(64, 16 if quick else 256),
        ((64, 64), (8, 64)),
        (64, 4),
        (8, 4),
    ),
}


def make_case(
    network: str, device: str = "cpu", quick: bool = False, batch_size: int | None = None
) -> Case:
    """A network of :data:`NETWORKS` with random weights and samples, always the same.

    :param batch_size: another one than its own.
    """
    recipe, scale = NETWORKS[network], int(quick)
    torch.manual_seed(0)
    model = recipe.build(quick).eval().to(device)
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.train()  # it has no dropout, and cuDNN's backward pass knows no other mode
    size = batch_size or recipe.batch[scale]
    x = torch.randn(size, *recipe.sample[scale], device=device)
    return Case(network, model, x, min(size, recipe.few[scale]))
