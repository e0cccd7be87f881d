"""A zoo of small networks, each with input: every way that a parameter can be used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

N = 9
"""Samples for each network: more than one batch of 7, whose remainder is 2."""


@dataclass(frozen=True)
class Case:
    """A network of the zoo.

    :param make: builds model and input.
    :param vmap: whether torch.func.vmap can transform the network.
    :param ways: how parameters are measured that no rule measures, in ``check_model``'s words, by
        name or prefix, in which ``*`` stands for anything.
    """

    make: Callable[[], tuple[nn.Module, Any]]
    vmap: bool = True
    ways: Mapping[str, str] = field(default_factory=dict)

    def build(self, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Any]:
        """The network in eval mode, as if trained for a while, and its input."""
        model, data = self.make()
        model = model.to(dtype).eval()
        live_in(model)
        if isinstance(data, dict):
            return model, {k: v.to(dtype) if v.is_floating_point() else v for k, v in data.items()}
        return model, data.to(dtype) if data.is_floating_point() else data

    def surprises(self, measured: Mapping[str, str]) -> dict[str, str]:
        """Parameters that are measured in another way than they should be."""

        def way(name: str) -> str:
            others = [way for part, way in self.ways.items() if fnmatch(f"{name}.", f"{part}.*")]
            return others[0] if others else "rule"

        return {name: found for name, found in measured.items() if found != way(name)}


ZOO: dict[str, Case] = {}


def network(vmap: bool = True, **ways: tuple[str, ...]) -> Callable[[Callable], Callable]:
    """Puts what the decorated function makes into the zoo, with ways such as ``unused=("a",)``."""

    def register(make: Callable[[], tuple[nn.Module, Any]]) -> Callable:
        by_name = {name: way.rstrip("_") for way, names in ways.items() for name in names}
        ZOO[make.__name__] = Case(make, vmap, by_name)
        return make

    return register


def build(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Any]:
    return ZOO[name].build(dtype)


def live_in(model: nn.Module) -> None:
    """Moves what initialisation leaves constant: running statistics, affine maps, layer scales."""
    for module in model.modules():
        if getattr(module, "running_var", None) is not None:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, 0, 0.3)
    for parameter in model.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            nn.init.normal_(parameter, 0, 0.3)


def module(forward: Callable[..., Any], **parts: nn.Module | nn.Parameter) -> nn.Module:
    """A module with the given children and parameters whose forward is ``forward(self, x)``."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

    Made.forward = forward
    return Made()


def at_a_kink(layer: nn.Module | None = None) -> nn.Module:
    """A network whose first hidden unit is at the kink of its ReLU: by round-off, which is not the
    same in a batch as alone, it passes a gradient or none.

    :param layer: the first, with 4 inputs and 16 outputs.
    """

    def forward(self, x):
        round_off = torch.finfo(self.head.weight.dtype).eps * (len(x) > 1)
        return self.head(torch.relu(self.hidden(torch.tanh(self.layer(x))) - round_off))

    hidden, head = nn.Linear(16, 16), nn.Linear(16, 2)
    with torch.no_grad():
        hidden.weight[0], hidden.bias[0] = 0, 1e-9
        head.weight[:, 0] *= 0.05
    return module(forward, layer=layer or nn.Linear(4, 16), hidden=hidden, head=head)


def free(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * 0.5)


class Mean(nn.Module):
    """Mean over all dimensions after the second."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


def images(channels: int = 3, height: int = 8, width: int = 7) -> Tensor:
    return torch.randn(N, channels, height, width)


# --- linear layers and convolutions ---------------------------------------------------------------


@network()
def linear_alone():
    return nn.Linear(5, 3), torch.randn(N, 5)


@network()
def mlp():
    layers = nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7, bias=False), nn.Tanh(), nn.Linear(7, 4)
    return nn.Sequential(nn.Flatten(), *layers), torch.randn(N, 3, 4)


@network()
def cnn_stride_padding():
    layers = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 5, (2, 3), padding=2)
    return nn.Sequential(*layers, nn.Tanh(), Mean(), nn.Linear(5, 3)), images()


@network()
def cnn_unequal_strides():
    layers = nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(0, 3)), nn.GELU(), nn.MaxPool2d(2)
    return nn.Sequential(*layers, Mean(), nn.Linear(4, 3)), images()


@network()
def cnn_same_padding():
    layers = nn.Conv2d(3, 4, 3, padding="same"), nn.ELU(), nn.Conv2d(4, 4, (4, 2), padding="same")
    return nn.Sequential(*layers, nn.Tanh(), nn.Conv2d(4, 2, 3, padding="valid"), Mean()), images()


@network()
def cnn_reflect_padding():
    layers = (
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular"),
    )
    return nn.Sequential(*layers, nn.Tanh(), Mean()), images()


@network()
def cnn_dilation_groups():
    layers = nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), nn.Conv2d(6, 4, 3, groups=2)
    return nn.Sequential(layers[0], nn.SiLU(), layers[1], Mean()), images(4)


@network()
def cnn_depthwise():
    layers = nn.Conv2d(3, 6, 3, groups=3, padding=1), nn.ReLU6(), nn.Conv2d(6, 4, 1), nn.ReLU()
    return nn.Sequential(*layers, Mean(), nn.Linear(4, 3)), images()


@network()
def cnn_transposed():
    up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=1)
    layers = nn.Conv2d(3, 4, 2), nn.Tanh(), up, nn.Tanh(), nn.ConvTranspose2d(6, 2, 2, bias=False)
    return nn.Sequential(*layers, Mean()), images()


@network()
def conv1d():
    layers = nn.Conv1d(3, 4, 3, dilation=2), nn.ReLU(), nn.ConvTranspose1d(4, 6, 3, stride=2)
    tail = nn.Conv1d(6, 4, 3, padding="same", groups=2), nn.AdaptiveAvgPool1d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Tanh(), *tail), torch.randn(N, 3, 11)


@network()
def conv3d():
    layers = nn.Conv3d(2, 4, (3, 3, 2), padding=1, stride=(1, 2, 1)), nn.ReLU()
    up = nn.ConvTranspose3d(4, 2, 2, stride=(2, 1, 1))
    return nn.Sequential(*layers, up, nn.Tanh(), Mean()), torch.randn(N, 2, 4, 5, 4)


@network()
def windows_of_samples():
    """Each sample becomes several images, as in a windowed transformer."""

    def forward(self, x):
        x = x.reshape(-1, 3, 4, 4)  # four images for each sample
        x = torch.tanh(self.norm(self.conv(x))).flatten(1)
        return self.head(x).view(-1, 8)

    parts = {"conv": nn.Conv2d(3, 4, 3), "norm": nn.GroupNorm(2, 4), "head": nn.Linear(16, 2)}
    return module(forward, **parts), torch.randn(N, 4, 3, 4, 4)


# --- normalisation --------------------------------------------------------------------------------


@network()
def batchnorm1d():
    layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.BatchNorm1d(5, affine=False)
    return nn.Sequential(*layers, nn.Linear(5, 3)), torch.randn(N, 6)


@network()
def batchnorm1d_sequences():
    return nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Tanh()), torch.randn(N, 3, 6)


@network()
def batchnorm2d():
    layers = nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(inplace=True)
    return nn.Sequential(*layers, nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), Mean()), images()


@network()
def layernorm():
    def forward(self, x):
        return self.b(torch.tanh(self.second(self.a(self.first(x)))))

    norms = {"first": nn.LayerNorm([4, 5]), "second": nn.LayerNorm(6)}
    return module(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 2), **norms), torch.randn(N, 4, 5)


@network()
def groupnorm():
    layers = nn.Conv2d(3, 6, 3), nn.GroupNorm(3, 6), nn.ReLU(), Mean(), nn.GroupNorm(2, 6)
    return nn.Sequential(*layers, nn.Linear(6, 3)), images()


@network()
def instancenorm():
    norms = nn.InstanceNorm2d(5, affine=True), nn.InstanceNorm2d(4, True, track_running_stats=True)
    norms[1].affine = True
    norms[1].weight, norms[1].bias = free(4), free(4)
    layers = nn.Conv2d(3, 5, 3), norms[0], nn.Tanh(), nn.Conv2d(5, 4, 3), norms[1], nn.Tanh()
    return nn.Sequential(*layers, Mean()), images()


@network(vmap_=("1.weight",))
def prelu():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4), Mean(), nn.Linear(4, 3)), images()


# --- sharing, tying, views ------------------------------------------------------------------------


@network()
def layer_used_thrice():
    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.layer(x))
        return self.head(x)

    return module(forward, layer=nn.Linear(6, 6), head=nn.Linear(6, 3)), torch.randn(N, 6)


@network()
def block_under_two_names():
    block = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Tanh())
    return nn.Sequential(block, block, nn.Linear(5, 3)), torch.randn(N, 5)


@network()
def conv_and_norm_used_thrice():
    def forward(self, x):
        x = self.stem(x)
        for i in range(3):
            x = F.relu(self.norm(self.conv(x)) if i else self.conv(x))
        return x.mean((2, 3))

    parts = {"stem": nn.Conv2d(3, 4, 3), "conv": nn.Conv2d(4, 4, 3, padding=1)}
    return module(forward, norm=nn.BatchNorm2d(4), **parts), images()


@network()
def tied_first_and_last():
    def forward(self, x):
        return F.linear(torch.tanh(self.first(x)), self.first.weight.t(), self.bias)

    return module(forward, first=nn.Linear(6, 4), bias=free(6)), torch.randn(N, 6)


@network()
def weight_transposed():
    def forward(self, x):
        return torch.tanh(x @ self.weight) @ self.weight.t() + torch.mm(x, self.other)

    return module(forward, weight=free(6, 4), other=free(6, 6)), torch.randn(N, 6)


@network()
def disjoint_slices():
    def forward(self, x):
        a, b = self.packed.chunk(2)
        return F.linear(torch.tanh(F.linear(x, a)), b[:, :3])

    return module(forward, packed=free(6, 5)), torch.randn(N, 5)


@network()
def overlapping_slices():
    def forward(self, x):
        return F.linear(torch.tanh(F.linear(x, self.weight[:5])), self.weight[2:])

    return module(forward, weight=free(6, 5)), torch.randn(N, 5)


@network(fallback=("first", "second"))
def two_parameters_one_memory():
    model = module(
        lambda self, x: self.second(torch.tanh(self.first(x))),
        first=nn.Linear(5, 5).double(),
        second=nn.Linear(5, 5).double(),
    )
    model.second.weight = nn.Parameter(model.first.weight.data)
    return model, torch.randn(N, 5)


@network(fallback=("weight",))
def parameter_with_gaps():
    wide = torch.randn(4, 10, dtype=torch.float64)
    return module(
        lambda self, x: torch.tanh(F.linear(x, self.weight)), weight=nn.Parameter(wide[:, ::2])
    ), torch.randn(N, 5)


@network(unused=("alone", "unused"))
def unused_parameters():
    def forward(self, x):
        return self.used(x)

    return module(forward, used=nn.Linear(5, 3), unused=nn.Linear(5, 3), alone=free(2)), (
        torch.randn(N, 5)
    )


@network()
def frozen_parameters():
    model = nn.Sequential(
        nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
    )
    for frozen in (model[0].weight, model[2].bias, model[3].bias, model[4].weight):
        frozen.requires_grad_(False)
    return model, torch.randn(N, 5)


@network()
def frozen_backbone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), Mean(), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    return model, images()


# --- parameters used directly ---------------------------------------------------------------------


@network(vmap_=("scale", "bias", "temperature"))
def scale_and_bias():
    def forward(self, x):
        return torch.tanh(self.layer(x) * self.scale + self.bias) * self.temperature

    parts = {"scale": free(4), "bias": free(1, 4), "temperature": nn.Parameter(torch.tensor(1.3))}
    return module(forward, layer=nn.Linear(5, 4), **parts), torch.randn(N, 5)


@network(vmap_=("bias", "scale"))
def parameters_in_place():
    def forward(self, x):
        x = self.layer(x)
        x += self.bias
        x.mul_(self.scale)
        return torch.tanh(x)

    return module(forward, layer=nn.Linear(5, 4), bias=free(4), scale=free(4)), torch.randn(N, 5)


@network(vmap_=("token", "position"))
def class_token_expanded():
    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(torch.tanh(self.layer(x))[:, 0] + x.mean(1))

    parts = {"token": free(1, 1, 6), "position": free(1, 5, 6), "layer": nn.Linear(6, 6)}
    return module(forward, head=nn.Linear(6, 3), **parts), torch.randn(N, 4, 6)


@network(vmap_=("token",))
def class_token_repeated():
    def forward(self, x):
        x = torch.cat([self.token.repeat(x.shape[0], 1, 1), x], 1)
        return self.head(torch.tanh(x).mean(1))

    return module(forward, token=free(1, 2, 6), head=nn.Linear(6, 3)), torch.randn(N, 4, 6)


@network(vmap_=("token",))
def class_token_used_twice():
    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x * self.token], 1)
        return self.head(torch.tanh(x).mean(1))

    return module(forward, token=free(1, 1, 6), head=nn.Linear(6, 3)), torch.randn(N, 4, 6)


@network()
def functional():
    def forward(self, x):
        x = F.conv2d(x, self.kernel, self.b0, 2, 1)
        x = F.layer_norm(x, x.shape[1:], self.gain, None)
        x = F.relu(x).flatten(1)
        return torch.addmm(self.b1, x, self.weight)

    parts = {"kernel": free(4, 3, 3, 3), "b0": free(4), "gain": free(4, 4, 4)}
    return module(forward, weight=free(64, 3), b1=free(3), **parts), images()


@network(vmap_=("a", "b", "c", "d"))
def broadcast_bias():
    def forward(self, x):
        return F.linear(torch.tanh(F.linear(x, self.a, self.b)), self.c, self.d)

    parts = {"a": free(4, 5), "b": free(1), "c": free(3, 4), "d": free(1, 3)}
    return module(forward, **parts), torch.randn(N, 5)


@network()
def low_rank_weight():
    def forward(self, x):
        return torch.tanh(F.linear(x, self.u @ self.v)) @ self.w

    return module(forward, u=free(4, 2), v=free(2, 5), w=free(4, 3)), torch.randn(N, 5)


@network(vmap_=("core",))
def einsum():
    def forward(self, x):
        return self.head(torch.einsum("bi,ijk->bjk", x, self.core).tanh().flatten(1))

    return module(forward, core=free(5, 3, 2), head=nn.Linear(6, 3)), torch.randn(N, 5)


@network()
def bilinear():
    layer = nn.Bilinear(5, 5, 4)
    return module(lambda self, x: self.b(torch.tanh(self.a(x, x))), a=layer, b=nn.Linear(4, 2)), (
        torch.randn(N, 5)
    )


@network()
def weight_norm():
    normed = parametrizations.weight_norm(nn.Linear(5, 4))
    return nn.Sequential(normed, nn.Tanh(), nn.Linear(4, 3)), torch.randn(N, 5)


@network()
def weight_norm_by_hook():
    normed = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(normed, nn.Tanh(), Mean(), nn.Linear(4, 3)), images()


@network()
def spectral_norm():
    normed = parametrizations.spectral_norm(nn.Linear(5, 4))
    return nn.Sequential(normed, nn.Tanh(), nn.Linear(4, 3)), torch.randn(N, 5)


@network()
def spectral_norm_by_hook():
    normed = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(normed, nn.Tanh(), Mean(), nn.Linear(4, 3)), images()


# --- graphs ---------------------------------------------------------------------------------------


@network()
def inplace_relu():
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)
    return nn.Sequential(*layers, Mean(), nn.Linear(4, 3), nn.LeakyReLU(0.2, True)), images()


@network()
def residual():
    def forward(self, x):
        x = self.stem(x)
        out = self.norm(self.conv(x))
        out += x
        return F.relu(out, inplace=True).mean((2, 3))

    parts = {"conv": nn.Conv2d(4, 4, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(4)}
    return module(forward, stem=nn.Conv2d(3, 4, 1), **parts), images()


@network()
def gated():
    def forward(self, x):
        return self.down(self.up(x) * F.silu(self.gate(x)))

    parts = {"up": nn.Linear(5, 6), "gate": nn.Linear(5, 6), "down": nn.Linear(6, 3)}
    return module(forward, **parts), torch.randn(N, 5)


@network()
def detached_use():
    def forward(self, x):
        y = torch.tanh(self.a(x))
        return self.b(y) + F.linear(y, self.b.weight.detach()) + self.a(x).detach().sum(1, True)

    return module(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3)), torch.randn(N, 5)


@network()
def use_without_grad():
    def forward(self, x):
        with torch.no_grad():
            before = self.a(x)
        return self.b(torch.tanh(self.a(x) * before))

    return module(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3)), torch.randn(N, 5)


@network()
def channels_last():
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, groups=1), Mean()
    model = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    return model, images().contiguous(memory_format=torch.channels_last)


@network()
def dropout():
    layers = nn.Linear(5, 6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 3)
    return nn.Sequential(*layers), torch.randn(N, 5)


@network(vmap=False, fallback=("first", "head"))
def activation_checkpointing():
    def forward(self, x):
        return self.head(checkpoint(self.first, x, use_reentrant=False))

    first = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh())
    return module(forward, first=first, head=nn.Linear(4, 3)), torch.randn(N, 5)


class _Square(torch.autograd.Function):
    """x·w², invisible to torch functions and to vmap."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w * w

    @staticmethod
    def backward(ctx, delta):
        x, w = ctx.saved_tensors
        return delta * w * w, (delta * x * 2 * w).sum(0)


@network(vmap=False, fallback=("scale",))
def custom_autograd_function():
    def forward(self, x):
        return self.head(_Square.apply(self.layer(x), self.scale))

    return module(forward, layer=nn.Linear(5, 4), scale=free(4), head=nn.Linear(4, 3)), (
        torch.randn(N, 5)
    )


@network(vmap=False, fallback=("a", "b"))
def branch_on_data():
    """Asks for a number, which is another one for each sample."""

    def forward(self, x):
        return self.a(x) if x.sum().item() > 0 else self.b(x)

    return module(forward, a=nn.Linear(5, 3), b=nn.Linear(5, 3)), _of_two_signs()


@network(vmap=False)
def branch_on_a_truth_value():
    """Samples that get the same answer are measured together."""

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.b(x)

    return module(forward, a=nn.Linear(5, 3), b=nn.Linear(5, 3)), _of_two_signs()


def _of_two_signs():
    """The first samples agree, the later ones do not."""
    x = torch.randn(N, 5)
    x[:4] += 3
    x[4:] -= 0.1
    return x


# --- parameters written to places, or behind a derivation -----------------------------------------


@network(vmap=False, vmap_=("token",))
def token_in_place_of_some():
    def forward(self, x):
        h = self.a(x)
        h[x[..., 0] > 0.3] = self.token
        return self.b(torch.tanh(h)).mean(1)

    parts = {"a": nn.Linear(4, 5), "token": free(5), "b": nn.Linear(5, 2)}
    return module(forward, **parts), torch.randn(N, 7, 4)


@network(vmap_=("first", "two", "scale", "shift"))
def written_behind_positions():
    """With the samples behind the positions."""

    def forward(self, x):
        h = self.a(x.transpose(0, 1))
        h[0] = self.first
        h[3:5] = self.two
        h *= self.scale
        h.add_(self.shift)
        return self.b(torch.tanh(h)).mean(0)

    parts = {"a": nn.Linear(4, 5), "b": nn.Linear(5, 2), "first": free(5), "two": free(1, 2, 1, 5)}
    return module(forward, **parts, scale=free(7, 1, 5), shift=free(1)), torch.randn(N, 7, 4)


@network()
def weight_standardisation():
    def forward(self, x):
        variance, mean = torch.var_mean(self.a.weight, dim=(1, 2, 3), keepdim=True)
        h = F.conv2d(x, (self.a.weight - mean) / (variance + 1e-5).sqrt(), self.a.bias)
        return self.b(torch.tanh(h).mean((2, 3)))

    return module(forward, a=nn.Conv2d(3, 4, 3), b=nn.Linear(4, 2)), images()


@network()
def several_tensors_from_one_weight():
    def forward(self, x):
        q, r = torch.linalg.qr(self.a.weight)
        largest, _ = torch.topk(self.a.weight, 2, dim=0)
        weight = F.normalize(q @ r * 2 + largest.sum(0), dim=1)
        return self.b(torch.tanh(F.linear(x, weight / torch.norm(weight), self.a.bias)))

    return module(forward, a=nn.Linear(4, 5), b=nn.Linear(5, 2)), torch.randn(N, 4)


@network(vmap_=("table",))
def learned_bias_of_attention():
    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v, self.table, scale=0.3)
        return self.out(h.transpose(1, 2).flatten(2)).mean(1)

    parts = {"qkv": nn.Linear(5, 24), "table": free(2, 6, 6), "out": nn.Linear(8, 3)}
    return module(forward, **parts), torch.randn(N, 6, 5)


# --- sequences ------------------------------------------------------------------------------------


@network()
def sequence_as_long_as_the_batch():
    layers = nn.Linear(5, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 3)
    return nn.Sequential(*layers), torch.randn(N, 7, 5)


@network()
def positions_before_samples():
    """A hand-written (T·B) flatten, in which the samples alternate along the dimension."""

    def forward(self, x):
        h = x.transpose(0, 1).reshape(-1, 5)
        h = torch.tanh(self.layer(h)).view(x.shape[1], x.shape[0], 6)
        return self.head(h.mean(0))

    return module(forward, layer=nn.Linear(5, 6), head=nn.Linear(6, 3)), torch.randn(N, 4, 5)


def _language_model(batch_first: bool) -> nn.Module:
    def forward(self, tokens):
        x = self.embedding(tokens) + self.position
        if not batch_first:
            x = x.transpose(0, 1)
        x = self.block(x)
        x, _ = self.attention(x, x, x * 1.0)
        if not batch_first:
            x = x.transpose(0, 1)
        return F.linear(self.norm(x), self.embedding.weight).mean(1)

    return module(
        forward,
        embedding=nn.Embedding(11, 8, padding_idx=0),
        position=free(7, 8),
        block=nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first, norm_first=batch_first),
        attention=nn.MultiheadAttention(8, 2, batch_first=batch_first, add_bias_kv=not batch_first),
        norm=nn.LayerNorm(8),
    )


def _tokens() -> Tensor:
    return torch.randint(0, 11, (N, 7))


@network(vmap_=("position",))
def language_model_batch_first():
    return _language_model(batch_first=True), _tokens()


@network(vmap_=("position", "attention.bias_k", "attention.bias_v"))
def language_model_sequence_first():
    return _language_model(batch_first=False), _tokens()


@network()
def tied_embeddings():
    """The word embedding, scaled, is also the output layer."""

    def forward(self, tokens):
        x = self.embedding(tokens) * 8**0.5
        return F.linear(torch.tanh(self.body(x)), self.embedding.weight, self.bias).flatten(1)

    parts = {"embedding": nn.Embedding(7, 8), "body": nn.Linear(8, 8), "bias": free(7)}
    return module(forward, **parts), torch.randint(0, 7, (N, 4))


def _transformer_encoder(batch_first: bool, norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        8, 2, 12, activation="gelu", batch_first=batch_first, norm_first=norm_first
    )
    encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(8), enable_nested_tensor=False)

    def forward(self, x):
        x = self.embed(x)
        x = self.encoder(x) if batch_first else self.encoder(x.transpose(0, 1)).transpose(0, 1)
        return self.head(x.flatten(1))

    return module(forward, embed=nn.Linear(5, 8), encoder=encoder, head=nn.Linear(24, 3))


@network()
def transformer_encoder_batch_first():
    return _transformer_encoder(batch_first=True, norm_first=False), torch.randn(N, 3, 5)


@network()
def transformer_encoder_batch_first_norm_first():
    return _transformer_encoder(batch_first=True, norm_first=True), torch.randn(N, 3, 5)


@network()
def transformer_encoder_sequence_first():
    return _transformer_encoder(batch_first=False, norm_first=False), torch.randn(N, 3, 5)


@network()
def transformer_encoder_sequence_first_norm_first():
    return _transformer_encoder(batch_first=False, norm_first=True), torch.randn(N, 3, 5)


def _multihead_attention(batch_first: bool) -> nn.Module:
    def forward(self, x):
        queries, keys, values = x[..., :8], x[..., 2:7], x[..., 1:7]
        if batch_first:
            return self.attention(queries, keys, values)[0].flatten(1)
        queries, keys, values = (t.transpose(0, 1) for t in (queries, keys, values))
        attended, weights = self.attention(queries, keys, values, average_attn_weights=False)
        return {"attended": attended.transpose(0, 1), "weights": weights}

    attention = nn.MultiheadAttention(
        8, 2, kdim=5, vdim=6, add_bias_kv=True, add_zero_attn=batch_first, batch_first=batch_first
    )
    return module(forward, attention=attention)


@network(vmap_=("attention.bias_k", "attention.bias_v"))
def multihead_attention_bias_k_kdim_batch_first():
    return _multihead_attention(batch_first=True), torch.randn(N, 3, 8)


@network(vmap_=("attention.bias_k", "attention.bias_v"))
def multihead_attention_bias_k_kdim_sequence_first():
    return _multihead_attention(batch_first=False), torch.randn(N, 3, 8)


@network()
def embedding():
    layers = nn.Embedding(6, 5, padding_idx=2), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)
    return nn.Sequential(*layers), torch.randint(0, 6, (N, 4))


@network()
def embedding_bag():
    return nn.Sequential(nn.EmbeddingBag(6, 5), nn.Tanh(), nn.Linear(5, 3)), (
        torch.randint(0, 6, (N, 4))
    )


@network(vmap=False)
def lstm():
    return module(
        lambda self, x: self.head(self.rnn(x)[0][:, -1]),
        rnn=nn.LSTM(5, 6, num_layers=2, batch_first=True),
        head=nn.Linear(6, 3),
    ), torch.randn(N, 4, 5)


@network(vmap=False)
def gru():
    return module(
        lambda self, x: self.head(self.rnn(x.transpose(0, 1))[1][0]),
        rnn=nn.GRU(5, 6),
        head=nn.Linear(6, 3),
    ), torch.randn(N, 4, 5)


# --- forms of input and output --------------------------------------------------------------------


@network()
def dict_input():
    def forward(self, image, weight, labels=None):
        assert labels is None, "labels went into the model"
        return self.head(torch.tanh(self.conv(image)).mean((2, 3)) * weight)

    data = {"image": images(), "weight": torch.rand(N, 1), "labels": torch.full((N,), torch.nan)}
    return module(forward, conv=nn.Conv2d(3, 4, 3), head=nn.Linear(4, 3)), data


@network()
def tuple_output():
    def forward(self, x):
        x = torch.tanh(self.body(x))
        return self.one(x), [self.two(x).view(-1, 2, 2), None]

    parts = {"body": nn.Linear(5, 4), "one": nn.Linear(4, 3), "two": nn.Linear(4, 4)}
    return module(forward, **parts), torch.randn(N, 5)


@network()
def dict_output():
    def forward(self, x):
        return {"y": self.one(x), "aux": {"z": self.two(torch.tanh(self.one(x)))}}

    return module(forward, one=nn.Linear(5, 4), two=nn.Linear(4, 2)), torch.randn(N, 5)
