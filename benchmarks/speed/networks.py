"""The networks that are measured, each with a batch of random samples; ten outputs each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

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
    tokens: tuple[int, int] = (0, 0)  # so many different ones, where a sample is padded text


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


class Block(nn.Module):
    """Self-attention and two linear layers, each behind a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return out


class BertLike(nn.Module):
    """An encoder of padded texts, as BERT is one, with a classifier of the first token."""

    def __init__(self, tokens: int, width: int, heads: int, layers: int, length: int = 64) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, OUTPUTS)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x, mask = self.token(ids) + self.position(places), (ids != 0)[:, None, None]
        for block in self.blocks:
            x = block(x, mask)
        output: Tensor = self.head(self.norm(x[:, 0]))
        return output


class LowRank(nn.Module):
    """A frozen linear layer, and a trainable matrix of low rank beside it (LoRA)."""

    def __init__(self, layer: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.a = nn.Linear(layer.in_features, rank, bias=False)
        self.b = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x) + self.b(self.a(x))
        return output


def bert_like(quick: bool) -> BertLike:
    """d = 256, four layers."""
    return BertLike(50, 16, 2, 1) if quick else BertLike(1000, 256, 4, 4)


def lora(quick: bool) -> BertLike:
    """The same with all weights frozen but low-rank ones at queries and values, and the head."""
    model = bert_like(quick).requires_grad_(False)
    model.head.requires_grad_(True)
    for block in model.blocks:
        assert isinstance(block, Block)
        block.query, block.value = LowRank(block.query), LowRank(block.value)  # type: ignore[assignment]
    return model


def weight_norm_cnn(quick: bool) -> nn.Module:
    """Convolutions of which length and direction are parameters."""
    model = cnn(4 if quick else 32)
    for module in model:
        if isinstance(module, nn.Conv2d):
            parametrizations.weight_norm(module)
    return model


def orthogonal_mlp(quick: bool) -> nn.Module:
    """A network whose hidden weights are orthogonal matrices."""
    width = 16 if quick else 256
    hidden = (parametrizations.orthogonal(nn.Linear(width, width)) for _ in range(2))
    layers = [part for layer in hidden for part in (layer, nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, OUTPUTS))


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
    "bert": Recipe("BERT-like", bert_like, ((64,), (8,)), (32, 4), (8, 4), (1000, 50)),
    "lora": Recipe("LoRA", lora, ((64,), (8,)), (32, 4), (8, 4), (1000, 50)),
    "weight-norm": Recipe(
        "weight-norm CNN", weight_norm_cnn, ((3, 32, 32), (3, 8, 8)), (64, 4), (16, 4)
    ),
    "orthogonal": Recipe("orthogonal MLP", orthogonal_mlp, ((256,), (16,)), (256, 4), (16, 4)),
    "small-cnn": Recipe(
        "small CNN",
        lambda quick: cnn(4 if quick else 16),
        ((3, 32, 32), (3, 8, 8)),
        (16, 4),
        (16, 4),
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
    x = torch.randn(size, *recipe.sample[scale])
    if tokens := recipe.tokens[scale]:
        lengths = torch.randint(1, x.shape[1] + 1, (size, 1))
        x = torch.randint(1, tokens, x.shape) * (torch.arange(x.shape[1]) < lengths)
    x = x.to(device)
    return Case(network, model, x, min(size, recipe.few[scale]))
