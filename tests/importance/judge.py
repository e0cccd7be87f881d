"""The judge: Eq. 2 written down naively, with nothing of the package in it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def one_sample(data: Any, k: int) -> Any:
    """Sample ``k`` of a tensor or a dict of tensors, as a batch of one."""
    if isinstance(data, Mapping):
        return {name: tensor[k : k + 1] for name, tensor in data.items()}
    return data[k : k + 1]


def length(data: Any) -> int:
    return len(next(iter(data.values()))) if isinstance(data, Mapping) else len(data)


def run(model: nn.Module, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, Mapping) else model(batch)


def flat(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output.flatten()
    elif output is not None:
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from flat(part)


def gradients(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(p) for p in parameters]
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def naive_importance(
    model: nn.Module,
    data: Any,
    call: Callable[[nn.Module, Any], Any] = run,
    output: str = "norm",
) -> dict[str, Tensor]:
    """The mean over samples of |∂‖F‖²/∂θ|, or of the norm (or its square) of ∂F/∂θ over outputs."""
    model.eval()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in parameters]
    for k in range(length(data)):
        y = torch.cat(list(flat(call(model, one_sample(data, k)))))
        if output == "norm":
            sample = [g.abs() for g in gradients((y * y).sum(), parameters)]
        else:
            rows = [gradients(entry, parameters) for entry in y]
            power = {"vector": 0.5, "squares": 1.0}[output]
            sample = [torch.stack(g).pow(2).sum(0).pow(power) for g in zip(*rows, strict=True)]
        for t, s in zip(total, sample, strict=True):
            t += s
    return {name: t / length(data) for name, t in zip(names, total, strict=True)}


def worst_error(ours: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> float:
    """Largest relative error of any parameter's Ω.

    Relative to the parameter's own norm, but not to less than a millionth of the network's
    largest: where the true gradient is zero (a bias before InstanceNorm) there is only round-off.
    """
    assert set(ours) == set(truth)
    largest = max(float(t.max()) for t in truth.values())
    assert largest > 0, "nothing to compare: the network is degenerate"
    worst = 0.0
    for name, t in truth.items():
        assert ours[name].shape == t.shape
        floor = 1e-6 * largest * t.numel() ** 0.5
        error = float((ours[name] - t).norm()) / max(float(t.norm()), floor)
        assert error == error, f"{name} holds NaN"
        worst = max(worst, error)
    return worst
