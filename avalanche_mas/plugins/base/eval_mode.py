"""The user's own model in eval mode, and afterwards as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor, nn


@contextmanager
def in_eval_mode(model: nn.Module, data: Any = None) -> Iterator[None]:
    """Eval mode inside, and afterwards as if nothing had happened, also after an exception.

    Restored are: train/eval mode and attributes of every submodule (a forward pass may count or
    cache), the bits of every buffer (BatchNorm statistics), weights of embeddings that renormalise
    themselves when used (``max_norm``), RNG states (torch on CPU and on every GPU, numpy,
    ``random``, and the generators of a ``DataLoader``), and cuDNN's switch. Parameters, ``.grad``,
    hooks and ``requires_grad`` are never written in the first place.

    :param model: the model that will be run.
    :param data: the data that will be iterated, for the generators inside it.
    """
    tensors = [(tensor, tensor.detach().clone()) for tensor in _written_by_forward(model)]
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    generators = [(generator, generator.get_state()) for generator in _generators(data)]
    rng = torch.get_rng_state(), numpy.random.get_state(), random.getstate()
    cuda = torch.cuda.is_available()
    cuda_rng = torch.cuda.get_rng_state_all() if cuda else []
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            if cuda and any(isinstance(module, nn.RNNBase) for module in model.modules()):
                # cuDNN refuses to run an RNN's backward pass in eval mode
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            if any("_orig_mod" in module._modules for module in model.modules()):
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            for module in model.modules():
                vars(module)["training"] = False  # eval() would run what users write into train()
            yield
    finally:
        for module, held in attributes:
            vars(module).clear()
            vars(module).update(held)
        for module, held in buffers:
            module._buffers.clear()
            module._buffers.update(held)
        with torch.no_grad():
            for tensor, before in tensors:
                tensor.copy_(before)
        for generator, state in generators:
            generator.set_state(state)
        torch.set_rng_state(rng[0])
        numpy.random.set_state(rng[1])
        random.setstate(rng[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda_rng)


def _written_by_forward(model: nn.Module) -> Iterator[Tensor]:
    yield from model.buffers()
    for module in model.modules():
        if getattr(module, "max_norm", None) is not None:
            yield from module.parameters(recurse=False)


def _generators(data: Any) -> list[torch.Generator]:
    holders = [data, getattr(data, "sampler", None)]
    batch_sampler = getattr(data, "batch_sampler", None)
    holders += [batch_sampler, getattr(batch_sampler, "sampler", None)]
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
