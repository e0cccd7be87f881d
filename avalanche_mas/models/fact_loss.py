"""The loss of fact learning: how far an image's vectors are from those of its fact."""

import torch
from torch import Tensor, nn


class FactLoss(nn.Module):
    r"""The mean over a batch of the distances between an image and its fact, unit by unit.

    .. math:: L = \frac{1}{B} \sum_b \sum_{u \in \{S, P, O\}} w_u^b \lVert V_u^b - L_u^b \rVert_2

    V is what the network makes of the image, L the embedding of the fact's words. A fact without an
    object, or without predicate and object, has w = 0 there (section 4.2 of the MAS paper, after
    Elhoseiny et al., *Sherlock*, AAAI 2017). The masks belong to their samples: in released PyTorch
    code of the time the product (B, 1) × (B,) mixes the samples of a batch.

    At V = L the gradient is 0, a subgradient of the norm.

    It is a criterion for Avalanche's strategies as it is, ``criterion=FactLoss()``.

    :param squared: take squared distances. Sherlock's Caffe network minimises half of that.
    """

    def __init__(self, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        :param output: V, shape (B, 3d), the blocks S, P and O one after the other.
        :param target: shape (B, 3d + 3): L in the same order, then w_S, w_P, w_O.
        :return: 0-d.
        :raises ValueError: for other shapes.
        """
        _check(output, target)
        blocks = (output - target[:, :-3]).reshape(len(output), 3, output.shape[1] // 3)
        if self.squared:
            distances = blocks.square().sum(2)
        else:  # unlike the root of a sum, vector_norm has the gradient 0 at 0, not NaN
            distances = torch.linalg.vector_norm(blocks, dim=2)
        loss: Tensor = (target[:, -3:] * distances).sum(1).mean()
        return loss


def _check(output: Tensor, target: Tensor) -> None:
    if output.ndim != 2 or output.shape[1] % 3 or not output.shape[1]:
        raise ValueError(
            f"images are embedded as (batch, 3 d) for S, P and O, this output has shape "
            f"{tuple(output.shape)}"
        )
    expected = len(output), output.shape[1] + 3
    if target.shape != expected:
        raise ValueError(
            f"a target holds the fact's embedding and the masks w_S, w_P, w_O: for this output the "
            f"shape {expected} is needed, this is {tuple(target.shape)}"
        )
