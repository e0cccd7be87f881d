"""Activations of a layer, for l-MAS: which torch functions they are, and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from avalanche_mas.importance.engines.tracking import Operation, is_inplace

RELU = {functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
ELEMENTWISE = {
    functional.celu,
    functional.elu,
    functional.gelu,
    functional.hardshrink,
    functional.hardsigmoid,
    functional.hardswish,
    functional.hardtanh,
    functional.leaky_relu,
    functional.logsigmoid,
    functional.mish,
    functional.relu6,
    functional.rrelu,
    functional.selu,
    functional.sigmoid,
    functional.silu,
    functional.softplus,
    functional.softshrink,
    functional.softsign,
    functional.tanh,
    functional.tanhshrink,
    functional.threshold,
    functional.celu_,
    functional.elu_,
    functional.hardtanh_,
    functional.leaky_relu_,
    functional.rrelu_,
    functional.selu_,
    torch.celu,
    torch.celu_,
    torch.hardshrink,
    torch.rrelu,
    torch.rrelu_,
    torch.selu,
    torch.selu_,
    torch.sigmoid,
    torch.sigmoid_,
    torch.tanh,
    torch.tanh_,
    torch.threshold,
    torch.threshold_,
    Tensor.hardshrink,
    Tensor.sigmoid,
    Tensor.sigmoid_,
    Tensor.tanh,
    Tensor.tanh_,
}

KEEPS_SIGN = {
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "boolean_dispatch",  # max pooling
    "dropout",
    "flatten",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "reshape",
    "view",
}
"""Operations that make no negative numbers out of others."""


def half_gradient(operation: Operation, z: Tensor) -> Tensor:
    """½ ∂‖f(z)‖²/∂z = f(z) f′(z), for an elementwise activation f."""
    function, args, kwargs, *_ = operation
    inplace = is_inplace(operation) or kwargs.get("inplace") or True in args[1:]
    own = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)  # not the model's
    with torch.inference_mode(False), torch.enable_grad(), own:
        z = z.requires_grad_()
        y = function(z.clone() if inplace else z, *args[1:], **kwargs)
        return torch.autograd.grad(y, z, y.detach())[0]


def batch_norm_scale(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """γ/σ, by which BatchNorm in eval mode multiplies its input; None in train mode."""
    if training or running_var is None:
        return None
    scale = (running_var + eps).rsqrt()
    return scale if weight is None else scale * weight.detach()
