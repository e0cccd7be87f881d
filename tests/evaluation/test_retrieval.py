import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from avalanche_mas.evaluation import average_precision, fact_retrieval_map

VARIANTS = ["full", "merged", "present"]


def slow_map(images, facts, shown, masks, variant, k):
    """The definition, image by image, in plain Python."""
    images, facts, masks = images.tolist(), facts.tolist(), masks.tolist()
    d = len(facts[0]) // 3

    def blocks(fact, units):
        return [facts[fact][u * d : (u + 1) * d] for u in units]

    def right(fact, other):
        if variant == "full":
            return fact == other
        if variant == "merged":
            return facts[fact] == facts[other]
        units = [u for u in range(3) if masks[fact][u]]
        return blocks(fact, units) == blocks(other, units) and all(masks[other][u] for u in units)

    asked, precisions = [], []
    for fact in range(len(facts)):
        known_by = fact if variant == "full" else (facts[fact], masks[fact])
        if variant == "merged":
            known_by = facts[fact]
        if known_by in asked or not any(right(fact, other) for other in shown.tolist()):
            continue
        asked.append(known_by)
        units = [u for u in range(3) if variant != "present" or masks[fact][u]]
        columns = [c for u in units for c in range(u * d, (u + 1) * d)]
        far = [sum((v[c] - facts[fact][c]) ** 2 for c in columns) for v in images]
        hits = []
        for i, other in enumerate(shown.tolist()):
            before = [j for j in range(len(images)) if far[j] <= far[i]]
            if right(fact, other) and (k is None or len(before) <= k):
                found = [j for j in before if right(fact, shown[j].item())]
                hits.append(len(found) / len(before))
        precisions.append(sum(hits) / len(hits) if hits else 0.0)
    return sum(precisions) / len(precisions) if precisions else float("nan")


@st.composite
def pools(draw):
    """Few different numbers, so that distances tie and facts have the same embedding."""
    n, m, d = draw(st.integers(0, 12)), draw(st.integers(1, 6)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    masks = rng.integers(0, 2, (m, 3))
    masks[:, 0] |= ~masks.any(1)  # no fact without a unit
    facts = rng.integers(0, 3, (m, 3, d)) * masks[:, :, None]
    images = rng.integers(-1, 3, (n, 3 * d))
    arrays = images, facts.reshape(m, 3 * d), rng.integers(0, m, n), masks
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("k", [None, 1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=60)
@given(pool=pools())
def test_equals_the_slow_definition(variant, k, pool):
    images, facts, shown, masks = pool
    expected = slow_map(images, facts, shown, masks, variant, k)
    value = fact_retrieval_map(images, facts, shown, masks=masks, variant=variant, k=k)
    assert value == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("levels", [4, 10**9])  # of distance: with ties, and without
def test_equals_scikit_learn(levels):
    rng = np.random.default_rng(0)
    distances, relevant = rng.integers(0, levels, (20, 50)), rng.random((20, 50)) < 0.2
    expected = [average_precision_score(r, -d) for r, d in zip(relevant, distances, strict=True)]
    value = average_precision(torch.from_numpy(distances).double(), torch.from_numpy(relevant))
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("k", [None, 1, 7, 100])
def test_without_ties_precision_is_counted_rank_by_rank(k):
    """As in the published evaluations: the mean, over the hits among the first k, of hits/rank."""
    rng = np.random.default_rng(1)
    distances, relevant = rng.random((60, 40)), rng.random((60, 40)) < 0.15
    expected = []
    for row, right in zip(distances, relevant, strict=True):
        precisions, hits = [], 0
        for rank, item in enumerate(np.argsort(row)[:k], start=1):
            if right[item]:
                hits += 1
                precisions.append(hits / rank)
        expected.append(np.mean(precisions) if precisions else 0.0)
    value = average_precision(torch.from_numpy(distances), torch.from_numpy(relevant), k)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert 0 < value.mean() < 1


def test_worked_out_by_hand():
    """One number per unit. Fact 0 is <1, *, *>, fact 1 is <1, 2, *>, fact 2 is <1, 2, 3>."""
    facts = torch.tensor([[1.0, 0, 0], [1, 2, 0], [1, 2, 3]])
    masks = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    images = torch.tensor([[1.0, 2, 2], [1, 2, 1], [0.5, 0, 0]])  # of facts 2, 1, 0
    shown = torch.tensor([2, 1, 0])
    # the nearest images: fact 0: 2, 1, 0; fact 1: 1, 0, 2; fact 2: 0, 1, 2
    assert fact_retrieval_map(images, facts, shown, variant="full") == 1
    # fact 0 by S: images 0 and 1 tie at 0, image 2 at ½, all right; fact 1 by S and P: 0 and 1
    # tie at 0 and both are right, and so is image 2 wrong; fact 2: image 0 first
    assert fact_retrieval_map(images, facts, shown, masks=masks, variant="present") == 1
    far = images.clone()
    far[0] = 9.0  # the image of fact 2 comes last everywhere
    full = fact_retrieval_map(far, facts, shown, variant="full")
    assert full == pytest.approx((1 + 1 + 1 / 3) / 3)
    present = fact_retrieval_map(far, facts, shown, masks=masks, variant="present")
    assert present == pytest.approx((1 + (1 + 2 / 3) / 2 + 1 / 3) / 3)


def test_facts_with_the_same_embedding():
    facts = torch.tensor([[0.0, 0, 0], [0, 0, 0], [5, 5, 5]])
    images = torch.tensor([[0.0, 0, 1], [0, 0, 2], [5, 5, 5]])
    shown = torch.tensor([1, 0, 2])
    assert fact_retrieval_map(images, facts, shown, variant="merged") == 1
    # apart, fact 0 finds the image of fact 1 first
    assert fact_retrieval_map(images, facts, shown, variant="full") == pytest.approx(2.5 / 3)


def test_the_order_of_images_does_not_matter():
    images = torch.zeros(12, 3)  # all at the same place: nothing was learnt
    facts = torch.randn(3, 3)
    shown = torch.tensor([0] * 6 + [1] * 4 + [2] * 2)
    values = {fact_retrieval_map(images, facts, shown[torch.randperm(12)]) for _ in range(5)}
    assert len(values) == 1
    assert values.pop() == pytest.approx((6 + 4 + 2) / 12 / 3)
    nowhere = fact_retrieval_map(images * float("nan"), facts, shown)
    assert nowhere == pytest.approx((6 + 4 + 2) / 12 / 3)
    assert fact_retrieval_map(images, facts, shown, k=3) == 0


def test_images_without_a_finite_vector_come_last():
    distances = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6, 7] + [torch.nan] * 6])
    assert average_precision(distances, distances == 7) == 1 / 8
    facts, shown = torch.randn(3, 6), torch.arange(30) % 3
    images = facts[shown] + torch.randn(30, 6)
    lost = torch.arange(30) % 4 == 0
    far, nan = (torch.where(lost[:, None], value, images) for value in (1e9, torch.nan))
    assert fact_retrieval_map(nan, facts, shown) == fact_retrieval_map(far, facts, shown)
    assert fact_retrieval_map(nan, facts, shown) < fact_retrieval_map(images, facts, shown)


def test_facts_without_images_do_not_count():
    facts = torch.eye(3).repeat(1, 2)
    shown = torch.tensor([0, 0, 1])
    value = fact_retrieval_map(facts[[1, 0, 1]], facts, shown)
    assert value == fact_retrieval_map(facts[[1, 0, 1]], facts[:2], shown)
    assert np.isnan(fact_retrieval_map(facts[:0], facts, shown[:0]))
    assert np.isnan(fact_retrieval_map(facts[:0], facts[:0], shown[:0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "harsh"}, "variant must be one of"),
        ({"k": 0}, "k is 0"),
        ({"image_vectors": torch.zeros(2, 4)}, "of the same length 3 d"),
        ({"image_vectors": torch.zeros(2, 9)}, "of the same length 3 d"),
        ({"fact_of_image": torch.zeros(3, dtype=torch.int64)}, "for 2 images"),
        ({"fact_of_image": torch.tensor([0, 5])}, "from 0 to 5, but there are 5 facts"),
        ({"fact_of_image": torch.tensor([-1, 0])}, "from -1 to 0"),
        ({"variant": "present"}, r"masks of shape \(5, 3\), they are None"),
        ({"variant": "present", "masks": torch.ones(5, 2)}, r"of shape \(5, 2\)"),
        ({"variant": "present", "masks": torch.tensor([[1, 1, 1]] * 4 + [[0, 0, 0]])}, "fact 4"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    fitting = {
        "image_vectors": torch.zeros(2, 6),
        "fact_vectors": torch.zeros(5, 6),
        "fact_of_image": torch.tensor([0, 4]),
    }
    with pytest.raises(ValueError, match=message):
        fact_retrieval_map(**{**fitting, **change})
