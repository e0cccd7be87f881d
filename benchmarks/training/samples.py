"""The samples of an experience as tensors, and what a network answers to them."""

from __future__ import annotations

import torch
from avalanche.benchmarks import CLExperience
from torch import Tensor, nn


def tensors(experience: CLExperience) -> tuple[Tensor, Tensor]:
    """All inputs and all targets of an experience."""
    samples = list(experience.dataset)
    return (
        torch.stack([sample[0] for sample in samples]),
        torch.stack([torch.as_tensor(sample[1]) for sample in samples]),
    )


@torch.inference_mode()
def outputs_for(model: nn.Module, x: Tensor, *task: int) -> Tensor:
    """What the network answers in eval mode, with the head of a task if it has several."""
    output: Tensor = model.eval()(x, *task)
    return output


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """The share of right answers."""
    return float((outputs.argmax(dim=1) == labels).double().mean())
