"""How far Ω of so many samples may be from Ω of all: the standard error of each layer's mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def layer_of(name: str) -> str:
    """The module that owns a parameter."""
    return name.rpartition(".")[0] or name


class StandardError:
    r"""The scatter of a layer's importance between batches, by the method of batch means.

    With S_b the importance of a whole layer summed over the n_b samples of batch b, and its
    per-sample mean m = Σ S_b / N,

    .. math:: \sigma^2 = \frac{1}{M - 1} \sum_{b=1}^{M} n_b \left( \frac{S_b}{n_b} - m \right)^2,
        \qquad \text{standard error of } m = \sigma / \sqrt{N}.

    It holds for samples in random order. Where the data are sorted, by class say, batches differ
    more than chance explains, and the answer is too large.

    :param total: parameter name → Σ_k |g_k| so far; it is read again at every :meth:`note`.
    """

    def __init__(self, total: Mapping[str, Tensor]) -> None:
        self._layers: dict[str, list[Tensor]] = {}
        for name, omega in total.items():
            self._layers.setdefault(layer_of(name), []).append(omega)
        self._before = self._sums()
        self._typical: Tensor | None = None
        self._deviation = torch.zeros_like(self._before)
        self._squares = torch.zeros_like(self._before)
        self._samples = self._batches = 0

    @property
    def finite(self) -> bool:
        """Whether the sums that were noted last are: one number that is read from the device."""
        return bool(self._before.isfinite().all())

    def note(self, size: int) -> None:
        """To be called after each batch of ``size`` samples. Nothing waits for a GPU."""
        sums = self._sums()
        batch, self._before = sums - self._before, sums
        if self._typical is None:
            self._typical = batch / size  # deviations from anything near m cancel no digits
        deviation = batch - size * self._typical
        self._deviation += deviation
        self._squares += deviation.square() / size
        self._samples += size
        self._batches += 1

    def restart(self) -> None:
        """To be called when the total begins again at zero."""
        self._before = torch.zeros_like(self._before)

    def state(self) -> dict[str, Any]:
        """What has been noted, as plain numbers, for :meth:`join`."""
        typical = (
            self._before.new_zeros(len(self._before)) if self._typical is None else self._typical
        )
        return {
            "typical": typical.tolist(),
            "deviation": self._deviation.tolist(),
            "squares": self._squares.tolist(),
            "samples": self._samples,
            "batches": self._batches,
        }

    def join(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Continues with everything that has been noted by several processes together.

        Deviations of batches are from each process's own first batch t; from any other t′ they are
        S_b − n_b t′ = (S_b − n_b t) + n_b (t − t′).

        :param states: each process's :meth:`state`, this one's among them.
        """
        wide: dict[str, Any] = {"dtype": torch.float64, "device": self._before.device}
        used = [state for state in states if state["batches"]]
        if not used:
            return
        self._typical = torch.tensor(used[0]["typical"], **wide)
        self._deviation = torch.zeros_like(self._typical)
        self._squares = torch.zeros_like(self._typical)
        for state in used:
            deviation, n = torch.tensor(state["deviation"], **wide), state["samples"]
            shift = torch.tensor(state["typical"], **wide) - self._typical
            self._deviation += deviation + n * shift
            self._squares += torch.tensor(state["squares"], **wide)
            self._squares += shift * (2 * deviation + n * shift)
        self._samples = sum(state["samples"] for state in used)
        self._batches = sum(state["batches"] for state in used)

    def of_layers(self) -> dict[str, float]:
        """Layer → standard error of ΣΩ over its parameters; empty for fewer than two batches."""
        if self._batches < 2:
            return {}
        scatter = self._squares - self._deviation.square() / self._samples
        variance = scatter.clamp(min=0) / (self._batches - 1)
        errors = (variance / self._samples).sqrt().tolist()
        return dict(zip(self._layers, errors, strict=True))

    def _sums(self) -> Tensor:
        device = next(iter(self._layers.values()))[0].device
        sums = (torch.stack([t.sum().to(device) for t in ts]) for ts in self._layers.values())
        return torch.stack([layer.sum() for layer in sums])
