"""Importance by each output F_c: as the gradient vector's norm, or as a sum of squares.

One forward pass, and one backward pass through activations for each of the C outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avalanche_mas.importance.engines.backward import Backward
from avalanche_mas.importance.rules.per_sample import Dense, PerSample


class Squares(Backward):
    """Σ_c (∂F_c/∂θ)². With F_c = log p_c it is what a diagonal Fisher information is made of."""

    magnitude = staticmethod(torch.square)

    def differentiate(self, outputs: list[Tensor]) -> None:
        """A backward pass for each output; no state is kept between them."""
        for output in outputs:
            flat = output.detach().flatten(1)
            for c in range(flat.shape[1]):
                start = torch.zeros_like(flat)
                start[:, c] = 1
                self.backward([output], [start.view(output.shape)], again=True)
                self.finish()


class Norms(Squares):
    """‖∂F/∂θ‖₂ over the outputs (section 4.1): squares are added up per sample, then the root.

    For a linear map the squares of all outputs still factor, Σ_c (δ_c xᵀ)² = (Σ_c δ_c²)(x²)ᵀ. For
    other uses they are written out, which the record tells, so that batches are cut accordingly.
    """

    magnitude = staticmethod(torch.sqrt)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._squares: dict[tuple[str, int, torch.Size], tuple[Tensor, PerSample]] = {}

    def differentiate(self, outputs: list[Tensor]) -> None:
        """A backward pass for each output, then the roots."""
        super().differentiate(outputs)
        written = [s.gradient for _, s in self._squares.values() if isinstance(s, Dense)]
        self.record.sample_bytes = sum(g.nbytes for g in written) // self.size
        for (name, *_), (part, squares) in self._squares.items():
            super().add_complete(name, part, squares)

    def add_complete(self, name: str, part: Tensor, gradients: PerSample) -> None:
        """Adds the squares of one output to those of the others."""
        key = name, int(part.storage_offset()), part.shape
        if key in self._squares:
            self._squares[key][1].accumulate(gradients)
        else:
            self._squares[key] = part, gradients.squared()
