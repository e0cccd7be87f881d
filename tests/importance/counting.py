"""Counts what a computation does: operations, bytes and forward passes. No clock."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass
class Work:
    """What was done.

    :param operations: aten operation → how often it ran.
    :param products: each matrix product and convolution: name, shapes of its operands, and for a
        backward pass which of the gradients of input, weight and bias were asked for.
    :param flops: floating-point operations of these.
    :param passes: batch size of each forward pass of the model.
    :param peaks: for each pass, what follows it included, the most bytes that were alive at a time,
        of those that were made since the counting began.
    """

    operations: Counter[str] = field(default_factory=Counter)
    products: Counter[tuple] = field(default_factory=Counter)
    flops: int = 0
    passes: list[int] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    def since(self, other: "Work") -> "Work":
        """What was done beyond ``other``, which began in the same way."""
        same = len(other.passes)
        assert self.passes[:same] == other.passes
        return Work(
            self.operations - other.operations,
            self.products - other.products,
            self.flops - other.flops,
            self.passes[same:],
            self.peaks[same:],
        )


def work_of(call: Callable[[], Any], model: nn.Module) -> Work:
    """Runs ``call``, in which ``model`` is used, and counts."""
    counter = _Counter()

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counter.work.passes.append(inputs[0].shape[0])
        counter.work.peaks.append(0)

    handle = model.register_forward_pre_hook(note)
    with counter:
        call()
    handle.remove()
    return counter.work


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.work = Work()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name, packet, kwargs = func.overloadpacket.__name__, func.overloadpacket, kwargs or {}
        before = {_key(t) for t in _tensors((args, kwargs))}
        result = func(*args, **kwargs)
        self.work.operations[name] += 1
        packet = torch.ops.aten.addmm if name == "addmm_" else packet
        if name == "_linear_pointwise":  # oneDNN's X Wᵀ
            self.work.flops += 2 * args[0].numel() * len(args[1])
            self.work.products[name, (tuple(args[0].shape), tuple(args[1].shape)), ()] += 1
        if packet in flop_registry:
            self.work.flops += _flops(packet, args, kwargs, result)
            shapes = tuple(tuple(t.shape) for t in _tensors(args))
            mask = tuple(args[-1]) if name == "convolution_backward" else ()
            self.work.products[name, shapes, mask] += 1
        for tensor in _tensors(result):
            if _key(tensor) not in before and _key(tensor) not in self.alive:
                storage = tensor.untyped_storage()
                self.alive[_key(tensor)] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: (ref, n) for key, (ref, n) in self.alive.items() if not ref.expired()}
        if self.work.peaks:
            now = sum(n for _, n in self.alive.values())
            self.work.peaks[-1] = max(self.work.peaks[-1], now)
        return result


def _flops(packet: Any, args: tuple, kwargs: dict, result: Any) -> int:
    count = flop_registry[packet]
    if packet is not torch.ops.aten.convolution_backward:
        return count(*args, **kwargs, out_val=result)
    # torch leaves groups out of account: a weight meets the channels of its own group alone
    *given, groups, (of_input, of_weight, _) = args
    return sum(
        count(*given, groups, mask, out_val=result) // share
        for mask, share in (([of_input, False], 1), ([False, of_weight], groups))
    )


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
