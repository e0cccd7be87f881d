"""How well facts find their images: mean average precision of retrieval by distance.

Image and fact are vectors of three blocks S, P, O of d numbers each. A fact lists all images, the
nearest first; what it should have found first are the images that show it.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

Variant = Literal["full", "merged", "present"]


def fact_retrieval_map(
    image_vectors: Tensor,
    fact_vectors: Tensor,
    fact_of_image: Tensor,
    *,
    masks: Tensor | None = None,
    variant: Variant = "merged",
    k: int | None = None,
) -> float:
    """Mean average precision over the facts, see :func:`average_precision`.

    The three variants are those of Sherlock's evaluation (Elhoseiny et al., AAAI 2017). They differ
    in which facts ask, which numbers are compared and which images are right:

    - ``"full"`` ("harsh"): every fact asks; all 3d numbers are compared, also the blocks of missing
      units; right are the images of this very fact.
    - ``"merged"`` ("notharsh"): facts with the same 3d numbers ask once, together; the images of
      any of them are right. The published code of MAS on facts evaluates so, with k = 100.
    - ``"present"`` ("notharsh_v2"): facts are merged; only blocks of units that the fact has are
      compared; right are the images of all facts with the same units there, so <person, *, *> is
      right to find a person playing golf.

    A fact without any right image has nothing to find and does not count.

    :param image_vectors: what the network makes of the images, shape (images, 3d).
    :param fact_vectors: the facts' embeddings, shape (facts, 3d).
    :param fact_of_image: for each image the row of its fact in ``fact_vectors``, shape (images,).
    :param masks: w_S, w_P, w_O of each fact, not 0 where it has the unit, shape (facts, 3). Only
        ``"present"`` needs them.
    :param variant: see above.
    :param k: how many images each fact retrieves; None for all.
    :return: a number in [0, 1]; NaN if no fact has an image.
    :raises ValueError: for shapes or numbers that do not fit, or an option out of range.
    """
    check_retrieval(variant, k)
    images, facts = (v.detach().to("cpu", torch.float64) for v in (image_vectors, fact_vectors))
    shown = fact_of_image.detach().cpu()
    _check(images, facts, shown)
    if not len(images):
        return float("nan")
    present = _present(masks, variant, len(facts))
    distances = torch.empty(len(facts), len(images), dtype=torch.float64)
    for units in torch.unique(present, dim=0):
        columns = units.repeat_interleave(facts.shape[1] // 3)
        asking = (present == units).all(1)
        distances[asking] = _distances(facts[asking][:, columns], images[:, columns])
    right = torch.eye(len(facts), dtype=torch.bool)  # [i, j]: images of fact j are right for i
    if variant != "full":
        blocks = _numbered(facts)
        same = (blocks[:, None] == blocks) & (present[:, None] == present)  # (facts, facts, 3)
        first = same.all(2).int().argmax(1) == torch.arange(len(facts))  # of facts that are merged
        distances, right = distances[first], (same | ~present[:, None]).all(2)[first]
    return float(average_precision(distances, right[:, shown], k).nanmean())


def average_precision(distances: Tensor, relevant: Tensor, k: int | None = None) -> Tensor:
    r"""The average precision of each query's ranking: its mean precision at the hits.

    .. math:: AP = \frac{1}{|H|} \sum_{i \in H} \frac{|\{j\ \text{relevant}: d_j \le d_i\}|}{r_i},
        \quad r_i = |\{j: d_j \le d_i\}|, \quad H = \{i\ \text{relevant}: r_i \le k\}

    The mean is over the hits that were found, as in Sherlock's evaluation, not over all that could
    have been. Without k this is scikit-learn's ``average_precision_score``.

    Items at the same distance share the last of their ranks, so the result does not depend on the
    order of the items: if all are at the same distance, AP is the share of relevant ones. Distances
    that are NaN count as infinite.

    :param distances: shape (queries, items).
    :param relevant: which items a query should find, same shape, bool.
    :param k: ranks up to this one count; None for all.
    :return: shape (queries,), float64: 0 where no hit was found, NaN where nothing is relevant.
    """
    distances, order = distances.where(~distances.isnan(), torch.inf).sort(dim=1)
    relevant = relevant.gather(1, order)
    ranks = torch.searchsorted(distances, distances, right=True)  # (queries, items), from 1
    found = relevant.cumsum(1).gather(1, ranks - 1)
    hits = relevant & (ranks <= k) if k is not None else relevant
    total = (hits * (found.double() / ranks)).sum(1)
    return torch.where(relevant.any(1), total / hits.sum(1).clamp_min(1), torch.nan)


def check_retrieval(variant: str, k: int | None) -> None:
    """Checks the options of :func:`fact_retrieval_map`.

    :raises ValueError: if one is out of range.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {get_args(Variant)}, got {variant!r}")
    if k is not None and k < 1:
        raise ValueError(f"k is {k}: give at least 1, or None for all images")


def _check(images: Tensor, facts: Tensor, shown: Tensor) -> None:
    width = images.shape[-1]
    if images.ndim != 2 or facts.ndim != 2 or facts.shape[1] != width or width % 3 or not width:
        raise ValueError(
            "images and facts must be vectors of the same length 3 d, of shapes (images, 3 d) and "
            f"(facts, 3 d), got {tuple(images.shape)} and {tuple(facts.shape)}"
        )
    if shown.shape != images.shape[:1]:
        raise ValueError(
            f"fact_of_image has shape {tuple(shown.shape)} for {len(images)} images: give one "
            "number for each image"
        )
    if ((shown < 0) | (shown >= len(facts))).any():
        raise ValueError(
            f"fact_of_image has numbers from {int(shown.min())} to {int(shown.max())}, but there "
            f"are {len(facts)} facts"
        )


def _present(masks: Tensor | None, variant: str, facts: int) -> Tensor:
    """Which units each fact is asked by, shape (facts, 3)."""
    if variant != "present":
        return torch.ones(facts, 3, dtype=torch.bool)
    if masks is None or masks.shape != (facts, 3):
        given = "None" if masks is None else f"of shape {tuple(masks.shape)}"
        raise ValueError(f"variant 'present' needs masks of shape ({facts}, 3), they are {given}")
    present = masks.detach().cpu() != 0
    if not present.any(1).all():
        raise ValueError(f"fact {int(present.any(1).int().argmin())} has no unit at all")
    return present


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean, and without the error of ‖a‖² + ‖b‖² − 2ab: equal vectors tie exactly."""
    return torch.cdist(b, a, compute_mode="donot_use_mm_for_euclid_dist").T


def _numbered(facts: Tensor) -> Tensor:
    """A number for each block, shape (facts, 3): equal blocks of a unit have equal numbers."""
    blocks = facts.chunk(3, dim=1)
    return torch.stack([torch.unique(b, dim=0, return_inverse=True)[1] for b in blocks], 1)
