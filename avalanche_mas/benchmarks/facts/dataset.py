"""Pictures of facts as samples ``(x, y)``: what the loss needs is all in y, and nothing else is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from avalanche_mas.benchmarks.facts.fact import Fact
from avalanche_mas.benchmarks.facts.release import FactImage
from avalanche_mas.benchmarks.pictures import read_picture


def fact_targets(facts: Sequence[Fact], embeddings: NDArray[np.floating[Any]]) -> Tensor:
    """Lay out what a picture of each fact is to be mapped to, in one tensor.

    Avalanche moves the second field of a batch to the device and hands it to the criterion, and can
    do neither with a tuple: embedding and masks are one vector.

    :param facts: facts.
    :param embeddings: (number of facts, 3d): the blocks of subject, predicate and object.
    :return: (number of facts, 3d + 3), float32: the embedding, then w_s, w_p, w_o.
    """
    masks = torch.tensor([fact.masks for fact in facts], dtype=torch.float32)
    return torch.cat([torch.from_numpy(np.asarray(embeddings, np.float32)), masks], dim=1)


class FactDataset(Dataset[tuple[Any, Tensor]]):
    """Pictures, read when they are asked for, with the target of their fact.

    :param images: pictures and the numbers of their facts.
    :param targets: (number of facts, 3d + 3), of :func:`fact_targets`.
    """

    def __init__(self, images: Sequence[FactImage], targets: Tensor) -> None:
        self.images = tuple(images)
        self._targets = targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        path, fact = self.images[index]
        try:
            # some pictures of 6DS may end too early, which its authors' reader takes too
            return read_picture(path, truncated=True), self._targets[fact]
        except ValueError as error:
            raise ValueError(f"{error}: copy it from the release again") from error
