"""The networks as Opacus and BackPACK accept them: the same function, with the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from .networks import OUTPUTS, Recurrent
from .ways import twin


def without_inplace(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """A twin that changes no tensor in place, and what had to be altered for that."""
    changes = []
    if isinstance(model, torchvision.models.ResNet):
        block = cast("type[BasicBlock]", PlainBlock)
        plain = torchvision.models.ResNet(block, [2, 2, 2, 2], num_classes=OUTPUTS)
        plain.load_state_dict(model.state_dict(), assign=True)
        model, changes = plain.eval(), ["residual blocks rewritten"]
    else:
        model = twin(model)
    for module in model.modules():
        if isinstance(module, nn.ReLU) and module.inplace:
            module.inplace = False
            changes.append("ReLU not in place")
    return model, changes


def without_train_mode(model: nn.Module) -> list[str]:
    """Makes train mode the same as eval mode; what had to be altered for that."""
    changes = []
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Dropout) and module.p:
            module.p = 0.0
            changes.append("no dropout")
        elif isinstance(module, nn.BatchNorm2d):
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, FrozenNorm(module))
            changes.append("BatchNorm without buffers")
    return changes


class PlainBlock(BasicBlock):  # type: ignore[misc]
    """The residual block without ``+=``, and without a module that is used twice."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        output: Tensor = self.last(inner + (x if self.downsample is None else self.downsample(x)))
        return output


class FrozenNorm(nn.Module):
    """BatchNorm in eval mode that has no buffers and knows no train mode."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.weight, self.bias = norm.weight, norm.bias
        self.mean = norm.running_mean.detach().view(-1, 1, 1)
        self.scale = torch.rsqrt(norm.running_var.detach() + norm.eps).view(-1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        normal = (x - self.mean) * self.scale
        return normal * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class SplitRecurrent(nn.Module):
    """The recurrent network with each LSTM layer a module of its own."""

    def __init__(self, model: Recurrent) -> None:
        super().__init__()
        whole, self.layers, self.head = model.lstm, nn.Sequential(), model.head
        for number in range(whole.num_layers):
            inputs = whole.hidden_size if number else whole.input_size
            layer = nn.LSTM(inputs, whole.hidden_size, batch_first=True)
            layer.load_state_dict(
                {name: getattr(whole, f"{name[:-1]}{number}") for name in layer.state_dict()},
                assign=True,
            )
            self.layers.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        output: Tensor = self.head(x[:, -1])
        return output


def with_own_lstm(model: Recurrent, kind: Callable[..., nn.Module]) -> None:
    """Replaces torch's LSTM by another one of the same arguments and parameter names."""
    lstm = model.lstm
    own = kind(lstm.input_size, lstm.hidden_size, num_layers=lstm.num_layers, batch_first=True)
    own.load_state_dict(lstm.state_dict())
    model.add_module("lstm", own.to(next(lstm.parameters())))
