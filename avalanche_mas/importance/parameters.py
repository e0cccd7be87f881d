"""Canonical parameter names: the same whether or not the model is wrapped."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

_COMPILED = "_orig_mod"  # the child that torch.compile puts around a module


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``.

    :param model: any module, wrapped any number of times or not at all.
    :return: the innermost module; the same object where nothing is wrapped.
    """
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif _COMPILED in model._modules:
            model = model._modules[_COMPILED]  # type: ignore[assignment]
        else:
            return model


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of ``model`` by canonical name.

    Wrapping a model between two experiences renames every parameter (``module.`` in front for
    data parallelism, ``_orig_mod.`` for compiled modules, at any depth). Importance that is kept
    under such names would silently match nothing afterwards, so both are left out of the name. A
    user's own submodule that happens to be called ``module`` keeps its name. A shared parameter
    appears once, under the first of its names, as in :meth:`torch.nn.Module.named_parameters`.

    :param model: any module.
    :return: canonical name → parameter, in the order of ``model.named_parameters()``.
    """
    return {canonical_name(model, name): parameter for name, parameter in model.named_parameters()}


def canonical_name(model: nn.Module, name: str) -> str:
    """The name that a parameter or buffer has when nothing is wrapped.

    :param model: any module.
    :param name: its name in ``model.named_parameters()`` or ``model.named_buffers()``.
    """
    owner: nn.Module | None = model
    kept = []
    for part in name.split("."):
        parallel = isinstance(owner, (DataParallel, DistributedDataParallel))
        if part != _COMPILED and not (parallel and part == "module"):
            kept.append(part)
        owner = owner._modules.get(part) if owner is not None else None
    return ".".join(kept)
