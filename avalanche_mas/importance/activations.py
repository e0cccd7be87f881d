"""Which torch functions are activations of a layer, for l-MAS."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

RELU = {functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
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
    torch.sigmoid,
    torch.tanh,
    Tensor.sigmoid,
    Tensor.tanh,
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
