"""Merging by the formulas of the paper, against NumPy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avalanche_mas.plugins.imm.merging import mean_merge, mode_merge

DTYPES = st.sampled_from([torch.float32, torch.float64])
SEEDS = st.integers(0, 2**32)


def drawn(seed, tasks, dtype=torch.float32, shape=(4, 3)):
    """Parameters over many magnitudes, and Fishers too, some of whose entries are zero."""
    generator = torch.Generator().manual_seed(seed)
    theta, size, fisher, zero = torch.randn(4, tasks, *shape, generator=generator)
    theta = theta * 10 ** (3 * size)
    fisher = 10 ** (3 * fisher) * (zero < 1)
    return [{"w": t.to(dtype)} for t in theta], [{"w": f.to(dtype)} for f in fisher]


def drawn_ratios(seed, tasks):
    ratios = np.random.default_rng(seed).uniform(0.1, 1.0, tasks)
    return (ratios / ratios.sum()).tolist()


def stacked(mappings):
    return np.stack([mapping["w"].double().numpy() for mapping in mappings])


@given(SEEDS, DTYPES)
def test_two_equal_ratios_give_the_average_to_the_bit(seed, dtype):
    (a, b), _ = drawn(seed, 2, dtype)
    expected = (a["w"] + b["w"]) / 2
    for ratios in (None, [0.5, 0.5]):
        assert torch.equal(mean_merge([a, b], ratios)["w"], expected)


@given(SEEDS, st.integers(1, 6), DTYPES, st.booleans())
def test_mean_is_the_closed_form(seed, tasks, dtype, equal):
    solutions, _ = drawn(seed, tasks, dtype)
    ratios = None if equal else drawn_ratios(seed, tasks)
    expected = np.average(stacked(solutions), axis=0, weights=ratios)
    merged = mean_merge(solutions, ratios)["w"]
    assert merged.dtype == dtype
    scale = np.abs(stacked(solutions)).max(axis=0)
    error = np.abs(merged.double().numpy() - expected) / scale
    assert error.max() < (1e-6 if dtype == torch.float32 else 1e-14)


@given(SEEDS, st.integers(1, 6), DTYPES, st.booleans())
def test_mode_is_the_closed_form_and_the_mean_where_it_has_none(seed, tasks, dtype, equal):
    solutions, fishers = drawn(seed, tasks, dtype)
    ratios = None if equal else drawn_ratios(seed, tasks)
    theta, precision = stacked(solutions), stacked(fishers)
    alpha = np.full(tasks, 1 / tasks) if equal else np.array(ratios)
    precision = alpha[:, None, None] * precision
    mean = np.average(theta, axis=0, weights=alpha)
    total = precision.sum(axis=0)
    with np.errstate(invalid="ignore"):
        expected = np.where(total > 0, (precision * theta).sum(axis=0) / total, mean)
    merged = mode_merge(solutions, fishers, ratios)["w"].double().numpy()
    error = np.abs(merged - expected) / np.abs(theta).max(axis=0)
    assert error.max() < (1e-6 if dtype == torch.float32 else 1e-14)


@given(SEEDS, st.integers(1, 6))
def test_with_identical_fishers_mean_and_mode_agree(seed, tasks):
    solutions, fishers = drawn(seed, tasks)
    ratios = drawn_ratios(seed, tasks)
    mean = mean_merge(solutions, ratios)["w"]
    mode = mode_merge(solutions, fishers[:1] * tasks, ratios)["w"]
    error = (mean - mode).abs() / torch.stack([s["w"] for s in solutions]).abs().amax(0)
    assert error.max() < 1e-6


def test_information_too_small_for_its_precision_counts_as_none():
    """1e-45 and 3e-45 are the smallest numbers in float32: nothing is known of their ratio."""
    solutions = [{"w": torch.tensor([0.0, 0.0])}, {"w": torch.tensor([4.0, 4.0])}]
    fishers = [{"w": torch.tensor([1e-45, 1e-20])}, {"w": torch.tensor([3e-45, 3e-20])}]
    torch.testing.assert_close(mode_merge(solutions, fishers)["w"], torch.tensor([2.0, 3.0]))


@pytest.mark.parametrize("merge", [mean_merge, lambda s, r: mode_merge(s, [{}] * 3, r)])
@pytest.mark.parametrize("ratios", [None, [0.1, 0.7, 0.2]])
def test_what_one_task_alone_has_keeps_its_bits(merge, ratios):
    (a, b, c), _ = drawn(0, 3)
    merged = merge([{"a": a["w"]}, {"b": b["w"]}, {"a": c["w"], "c": c["w"]}], ratios)
    assert set(merged) == {"a", "b", "c"}
    assert torch.equal(merged["b"], b["w"])
    assert torch.equal(merged["c"], c["w"])
    first, last = (0.5, 0.5) if ratios is None else (1 / 3, 2 / 3)
    torch.testing.assert_close(merged["a"], first * a["w"] + last * c["w"])


@pytest.mark.parametrize("with_fishers", [False, True])
def test_units_that_came_later_are_merged_over_the_tasks_that_have_them(with_fishers):
    (a, b, c), fishers = drawn(1, 3, torch.float64)
    parts = [slice(2), slice(3), slice(4)]
    solutions = [{"w": s["w"][part]} for s, part in zip((a, b, c), parts, strict=True)]
    fishers = [{"w": f["w"][part] + 0.1} for f, part in zip(fishers, parts, strict=True)]
    ratios = [0.5, 0.2, 0.3]
    merged = (
        mode_merge(solutions, fishers, ratios) if with_fishers else mean_merge(solutions, ratios)
    )
    for row, tasks in enumerate([(0, 1, 2), (0, 1, 2), (1, 2), (2,)]):
        theta = np.stack([solutions[k]["w"][row].numpy() for k in tasks])
        weights = np.stack([np.full(3, ratios[k]) for k in tasks])
        if with_fishers:
            weights = weights * np.stack([fishers[k]["w"][row].numpy() for k in tasks])
        expected = (weights * theta).sum(axis=0) / weights.sum(axis=0)
        np.testing.assert_allclose(merged["w"][row].numpy(), expected, rtol=1e-12)
    assert torch.equal(merged["w"][3], c["w"][3])


def test_bfloat16_is_merged_in_float32():
    """In bfloat16 a seventh has three digits, and seven of them are not 1."""
    a = {"w": torch.ones(1, dtype=torch.bfloat16)}
    merged = mean_merge([a] * 7)["w"]
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, a["w"])


def test_no_dimensions_and_no_numbers():
    scalar, none = torch.tensor(1.0), torch.zeros(0, 3)
    merged = mean_merge([{"s": scalar, "n": none}, {"s": 2 * scalar, "n": none}])
    assert merged["s"] == 1.5
    assert merged["n"].shape == (0, 3)


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ([0.5], "1 ratios for 2 tasks"),
        ([0.2, 0.3, 0.5], "3 ratios for 2 tasks"),
        ([0.5, 0.6], r"sum to 1, got \[0.5, 0.6\]"),
        ([1.0, 0.0], "must be positive"),
        ([1.5, -0.5], "must be positive"),
        ([float("nan"), 0.5], "must be positive"),
    ],
)
def test_wrong_ratios_are_named(ratios, message):
    solutions, fishers = drawn(0, 2)
    with pytest.raises(ValueError, match=message):
        mean_merge(solutions, ratios)
    with pytest.raises(ValueError, match=message):
        mode_merge(solutions, fishers, ratios)


def test_a_tensor_that_shrank_is_named():
    with pytest.raises(ValueError, match=r"'w' went from shape \(3,\) to \(2,\)"):
        mean_merge([{"w": torch.zeros(3)}, {"w": torch.zeros(2)}])
