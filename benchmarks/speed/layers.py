"""Time to add one layer's Σ_k |g_k| to Ω, by each of the libraries that torch has on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor

from avalanche_mas.importance.rules import conv, matmul
from avalanche_mas.importance.rules.per_sample import Outer, PerSample

from .clock import interleave
from .rows import Row, Section, SpeedSettings

MM, ONEDNN, CONVOLUTION = "torch.mm", "oneDNN", "the convolution's own backward pass"


@dataclass(frozen=True)
class Layer:
    """A layer of one of the networks.

    :param title: how it is called in a table.
    :param weight: shape of its weight.
    :param input: shape of its input, (T, i) for a linear map at T positions.
    :param output: shape of its output.
    :param batch: samples, and how many for a quick trial.
    """

    title: str
    weight: tuple[int, ...]
    input: tuple[int, ...]
    output: tuple[int, ...]
    batch: tuple[int, int]

    def gradients(self, quick: bool) -> PerSample:
        """g_k of random inputs and δ."""
        torch.manual_seed(0)
        size = self.batch[quick]
        x, delta = torch.randn(size, *self.input), torch.randn(size, *self.output)
        if len(self.weight) == 2:
            return Outer(delta, x)
        options = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
        return conv.Convolution(x, delta, torch.randn(self.weight), options)


LAYERS = {
    "mlp": Layer("MLP, hidden", (1000, 1000), (1, 1000), (1, 1000), (256, 64)),
    "alexnet": Layer("AlexNet, fc6", (4096, 9216), (1, 9216), (1, 4096), (64, 64)),
    "resnet18": Layer(
        "ResNet-18, last block", (512, 512, 3, 3), (1, 512, 7, 7), (1, 512, 7, 7), (16, 2)
    ),
    "vit": Layer("ViT, mlp", (1536, 384), (197, 384), (197, 1536), (16, 2)),
}


def sections(settings: SpeedSettings, networks: Sequence[str]) -> list[Section]:
    """One for each layer; on a GPU there is but one library."""
    if settings.device != "cpu":
        return []
    return [
        Section("layers", name, measure, ((name, settings),)) for name in LAYERS if name in networks
    ]


def measure(network: str, settings: SpeedSettings) -> Iterator[Row]:
    """Seconds per sample."""
    torch.set_num_threads(settings.threads)
    layer = LAYERS[network]
    gradients, total = layer.gradients(settings.quick), torch.zeros(layer.weight)
    calls = {MM: _call(gradients, total, onednn=False)}
    if matmul.has_onednn():
        calls[ONEDNN] = _call(gradients, total, onednn=True)
    if len(layer.weight) > 2:
        calls[CONVOLUTION] = _call(gradients, total, onednn=False, patches=False)
    for number, way, seconds in interleave(calls, settings.rounds, settings.shortest):
        yield Row(way, number, seconds / gradients.size)


def _call(
    gradients: PerSample, total: Tensor, *, onednn: bool, patches: bool = True
) -> Callable[[], None]:
    smallest = matmul.MIN_ONEDNN_FLOPS if onednn else 1 << 62
    positions = conv.POSITIONS_PER_CHANNEL if patches else 0

    def call() -> None:
        with (
            patch.object(matmul, "MIN_ONEDNN_FLOPS", smallest),
            patch.object(conv, "POSITIONS_PER_CHANNEL", positions),
        ):
            gradients.add(total, torch.abs)

    return call
