"""Matrix products that are added to Ω, by the faster of the libraries that come with torch.

``torch.mm`` asks MKL, which is made for processors of Intel: there, oneDNN takes up to twice as
long for small products. On those of AMD it is the other way round, and oneDNN can take |·| while a
float32 product is still in registers (``python -m benchmarks speed --part layers``). A sum is
written to in blocks that stay in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import torch
from torch import Tensor

from avalanche_mas.importance.engines.objectives import Magnitude

BLOCK_BYTES = 1 << 22
"""On a CPU: a block of one sample's gradient that stays in cache between its operations."""

MIN_ONEDNN_FLOPS = 1 << 22
"""Multiplications from which on a product is worth oneDNN's longer call."""

MIN_ONEDNN_SAMPLES = 64
"""Samples from which on a sum's product is worth writing it down apart from the sum."""

_ABSOLUTE = "leaky_relu", [-1.0]  # y for y > 0, else −y


@cache
def _onednn() -> Callable[..., Tensor] | None:
    """oneDNN's act(X Wᵀ): X, W, bias, act, numbers of act, algorithm. None where it does not work.

    The operation is what torch's own compiler makes of a linear layer, and not public: it is tried
    once. On other processors than those that oneDNN has kernels of its own for, it may be slow.
    """
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return None
    x, weight = torch.tensor([[[1.0, -2.0]], [[1.0, 1.0]]], dtype=torch.float32, device="cpu")
    try:
        product: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
        tried = product(x, weight, None, *_ABSOLUTE, "")
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
    return product if tried.tolist() == [[1.0]] else None


@cache
def _is_of_intel() -> bool:
    try:
        name = torch.cpu.get_capabilities()["cpu_name"]
    except (AttributeError, KeyError):  # an older torch
        return False
    return str(name).startswith("Intel")


def has_onednn() -> bool:
    """Whether large products are oneDNN's on this machine."""
    return _onednn() is not None and not _is_of_intel()


def add_product(total: Tensor, a: Tensor, b: Tensor, magnitude: Magnitude) -> None:
    """total += f(a)ᵀ f(b), which is Σ_k f(a_k b_kᵀ) for the rows a_k and b_k.

    :param total: (m, n).
    :param a: (B, m).
    :param b: (B, n).
    :param magnitude: f.
    """
    a, b = a.to(total.dtype), b.to(total.dtype)
    if len(a) < MIN_ONEDNN_SAMPLES or not _suits_onednn(a.t(), b):
        total.addmm_(magnitude(a).t(), magnitude(b))
        return
    if magnitude is not torch.abs or bool(b.amin() < 0):  # behind a ReLU |b| is b
        b = magnitude(b)
    b = _dense(b)
    for rows in _row_blocks(total, min(BLOCK_BYTES, total.nbytes // 4)):  # to save memory
        total[rows].add_(_by_onednn(magnitude(a[:, rows]).t(), b))


def add_magnitudes(
    total: Tensor,
    a: Tensor,
    b: Tensor,
    magnitude: Magnitude,
    used: Sequence[slice] | None = None,
) -> None:
    """total += Σ_k f(a_k b_k), on a CPU.

    A block of rows stays in cache while all samples add their part to it.

    :param total: (m, n).
    :param a: (B, m, t).
    :param b: (B, t, n).
    :param magnitude: f.
    :param used: for each k, where along t neither is only zeros; None for everywhere.
    """
    a, b = a.to(total.dtype), _dense(b.to(total.dtype))
    pairs = list(zip(a, b, strict=True))
    if used is not None:
        pairs = [(of_k[:, t], other[t]) for (of_k, other), t in zip(pairs, used, strict=True)]
    for rows in _row_blocks(total, BLOCK_BYTES):
        block = total[rows]
        for of_k, other in pairs:
            block.add_(_magnitude_of(of_k[rows], other, magnitude))


MAX_WAITING_SAMPLES = 256
"""Samples for which writing to a large sum costs little beside their product."""


class Products:
    """Sums f(A)ᵀ f(B) that wait for each other, so that a large sum is written to once."""

    def __init__(self) -> None:
        self._waiting: dict[object, tuple[Tensor, list[Tensor], list[Tensor]]] = {}

    def add(self, total: Tensor, a: Tensor, b: Tensor, magnitude: Magnitude) -> None:
        """As :func:`add_product`, at the next :meth:`flush` or at once."""
        if len(a) >= MAX_WAITING_SAMPLES:
            add_product(total, a, b, magnitude)
            return
        key = total.data_ptr(), total.shape, total.stride()
        _, first, second = self._waiting.setdefault(key, (total, [], []))
        first.append(magnitude(a.to(total.dtype)))  # new tensors: the others may be overwritten
        second.append(magnitude(b.to(total.dtype)))

    def flush(self) -> None:
        """Adds what waits."""
        for total, *waiting in self._waiting.values():
            a, b = (factors[0] if len(factors) == 1 else torch.cat(factors) for factors in waiting)
            add_product(total, a, b, _as_it_is)
        self.clear()

    def clear(self) -> None:
        """Forgets what waits."""
        self._waiting.clear()


def _as_it_is(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    return input


def _magnitude_of(a: Tensor, b: Tensor, magnitude: Magnitude) -> Tensor:
    if _suits_onednn(a, b):
        if magnitude is torch.abs:
            return _by_onednn(a, b, *_ABSOLUTE)
        product = _by_onednn(a, b)
    else:
        product = torch.mm(a, b)
    return magnitude(product, out=product)


def _suits_onednn(a: Tensor, b: Tensor) -> bool:
    return (
        a.device.type == "cpu"
        and a.dtype == b.dtype == torch.float32
        and a.numel() * b.shape[1] >= MIN_ONEDNN_FLOPS
        and has_onednn()
    )


def _by_onednn(
    a: Tensor, b: Tensor, activation: str = "none", numbers: Sequence[float] = ()
) -> Tensor:
    product = _onednn()
    assert product is not None
    return product(a, b.t(), None, activation, numbers, "")


def _dense(matrices: Tensor) -> Tensor:
    """Without gaps between rows: oneDNN has no fast product for those."""
    one = matrices if matrices.dim() == 2 else matrices[0]
    return matrices if one.is_contiguous() or one.t().is_contiguous() else matrices.contiguous()


def _row_blocks(total: Tensor, nbytes: int) -> Iterator[slice]:
    rows, columns = total.shape
    step = max(32, nbytes // max(1, columns * total.element_size()) // 32 * 32)
    for start in range(0, rows, step):
        yield slice(start, start + step)
