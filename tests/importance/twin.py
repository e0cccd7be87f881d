"""The twin of l-MAS: Eq. 5-7 by autograd, one sample and one layer at a time.

Every layer is a little network of its own: its input is cut off from what came before, and ½‖F_l‖²
is differentiated by autograd alone. What reads the layer's output first decides about F_l: an
activation belongs to the layer, a BatchNorm hands it on, anything else ends it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from judge import gradients, length, one_sample, run
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

LAYERS = {
    F.linear, torch.addmm, torch.mm, Tensor.mm, torch.matmul, Tensor.matmul, Tensor.__matmul__,
    F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
    F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, F.rms_norm,
    F.embedding, F.embedding_bag, F.bilinear, torch.bilinear,
}  # fmt: skip
ACTIVATIONS = {
    F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.hardtanh, F.leaky_relu,
    F.elu, F.gelu, F.silu, F.hardswish, F.hardsigmoid,
    F.tanh, torch.tanh, Tensor.tanh, torch.sigmoid, Tensor.sigmoid,
}  # fmt: skip
RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}


def layerwise_importance(model: nn.Module, data: Any) -> tuple[dict[str, Tensor], set[str]]:
    """The mean over samples of |½ ∂‖F_l‖²/∂θ_l|.

    :return: it, and the names of parameters that something else than a layer uses.
    """
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in parameters]
    elsewhere: set[str] = set()
    for k in range(length(data)):
        sample = one_sample(data, k)
        with Layers(dict(zip(names, parameters, strict=True)), sample) as layers:
            run(model, sample)
        norm = torch.zeros(()) + sum(y.square().sum() / 2 for y in layers.finished())
        for t, g in zip(total, gradients(norm, parameters), strict=True):
            t += g.abs() / length(data)
        elsewhere |= layers.elsewhere
    return dict(zip(names, total, strict=True)), elsewhere


class Layers(TorchFunctionMode):
    """Collects F_l of every layer while one sample passes through a network."""

    def __init__(self, parameters: dict[str, nn.Parameter], sample: Any) -> None:
        super().__init__()
        self.names: dict[int, set[str]] = {id(p): {name} for name, p in parameters.items()}
        self.depends = {id(leaf) for leaf in tree_leaves(sample)}  # on the sample
        self.kept: list[Tensor] = []  # no id is given to another tensor
        self.open: dict[int, list[Tensor]] = {}  # a layer's output, not read yet → F_l so far
        self.ended: list[Tensor] = []
        self.elsewhere: set[str] = set()

    def finished(self) -> list[Tensor]:
        return self.ended + [y for layers in self.open.values() for y in layers]

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self.attention(*args, **kwargs)
        if func in RECURRENT:
            self.recurrent(func, *args)
        leaves = list(tensors((args, kwargs)))
        own = self.names_of(leaves) if torch.is_grad_enabled() else set()
        if func in LAYERS and own and id(args[func is torch.addmm]) in self.depends:
            result = self.layer(func, args, kwargs)
        else:
            versions = {id(leaf): leaf._version for leaf in leaves}
            result = func(*args, **kwargs)
            if not any(versions.get(id(t)) != t._version for t in tensors(result)):
                return result  # dropout in eval mode, or a question about a shape
            self.read(func, args, kwargs, result)
        dependent = not self.depends.isdisjoint(map(id, leaves))
        for tensor in tensors(result):
            self.kept.append(tensor)
            if dependent:
                self.depends.add(id(tensor))
            elif tensor.requires_grad:  # a view of a parameter, or computed from parameters alone
                self.names[id(tensor)] = own
            if dependent and tensor.requires_grad and func not in LAYERS | RECURRENT:
                self.elsewhere |= own
        return result

    def names_of(self, values: Iterable[Any]) -> set[str]:
        return set().union(*(self.names.get(id(value), set()) for value in values))

    def layer(self, func: Callable, args: tuple, kwargs: dict) -> Tensor:
        def cut(leaf: Any) -> Any:
            return leaf.detach().clone() if id(leaf) in self.depends else leaf

        before = self.read(func, args, kwargs)
        y = func(*tree_map(cut, args), **tree_map(cut, kwargs))
        result = y.detach().clone()
        self.open[id(result)] = [*before, y]
        return result

    def read(self, func: Callable, args: tuple, kwargs: dict, result: Any = None) -> list[Tensor]:
        """Decides about the layers whose output is read here; those that a BatchNorm continues."""

        def follow(y: Tensor) -> Tensor:
            rest = tree_map(
                lambda t: t.detach() if isinstance(t, Tensor) else t, (args[1:], kwargs)
            )
            return func(y.clone(), *rest[0], **rest[1])

        going_on: list[Tensor] = []
        for leaf in tensors((args, kwargs)):
            layers = self.open.pop(id(leaf), [])
            if leaf is args[0] and func in ACTIVATIONS:
                self.ended += map(follow, layers)
            elif leaf is args[0] and func is F.batch_norm:
                going_on += map(follow, layers)
            else:
                self.ended += layers
        if going_on and result is not None:  # a BatchNorm without trainable parameters
            self.open[id(result)] = going_on
        return going_on

    def attention(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Four linear maps; what lies between them is torch's own attention."""
        width, _, packed, bias, bias_k, bias_v, _, _, out, out_bias = args[:10]
        self.elsewhere |= self.names_of([bias_k, bias_v])
        weights = [kwargs.get(f"{name}_proj_weight") for name in "qkv"]
        with self:
            weights = weights if packed is None else packed.chunk(3)
            biases = [None] * 3 if bias is None else bias.chunk(3)
            for x, weight, b in zip((query, key, value), weights, biases, strict=True):
                F.linear(x, weight, b)
        eye = torch.eye(width, dtype=query.dtype)
        args = (*args[:8], eye, None, *args[10:])
        attended, shares = F.multi_head_attention_forward(query, key, value, *args, **kwargs)
        self.kept.append(attended)
        self.depends.add(id(attended))
        with self:
            return F.linear(attended, out, out_bias), shares

    def recurrent(
        self, func: Callable, x: Tensor, start: Any, weights: list[Tensor], bias: bool, depth: int,
        dropout: float, train: bool, both: bool, batch_first: bool,
    ) -> None:  # fmt: skip
        """Two linear maps in each layer and direction: of the inputs, and of the states before."""
        x, weights = x.transpose(0, 1) if batch_first else x, list(weights)
        for layer in range(depth):
            outputs = []
            for direction in range(1 + both):
                own = [weights.pop(0) for _ in range(4 if bias else 2)]
                place = layer * (1 + both) + direction
                states = tree_map(lambda s, place=place: s[place : place + 1], start)
                into = x.flip(0) if direction else x
                y = func(into, states, own, bias, 1, 0.0, False, False, False)[0].detach()
                h = states if isinstance(states, Tensor) else states[0]
                inputs = into, torch.cat([h, y[:-1]])
                self.depends |= {id(tensor) for tensor in inputs}
                self.kept += inputs
                with self:
                    for map_input, weight, b in zip(
                        inputs, own, own[2:] or [None] * 2, strict=False
                    ):
                        F.linear(map_input, weight, b)
                outputs.append(y.flip(0) if direction else y)
            x = torch.cat(outputs, -1)


def tensors(values: Any) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
