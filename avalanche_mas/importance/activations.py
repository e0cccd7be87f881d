"""Which torch functions are activations of a layer, for l-MAS."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

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
