"""Products added to Ω: the same numbers by either library, whatever the operands' memory."""

import pytest
import torch
from torch import nn

from avalanche_mas import estimate_importance, estimate_local_importance
from avalanche_mas.importance.rules import matmul
from avalanche_mas.importance.rules.matmul import Products, add_magnitudes, add_product

needs_onednn = pytest.mark.skipif(matmul._onednn() is None, reason="torch has no oneDNN here")


@pytest.fixture(autouse=True)
def processor(monkeypatch):
    """One of AMD: on those of Intel large products are MKL's."""
    monkeypatch.setattr(matmul, "_is_of_intel", lambda: False)


def gapped(*shape):
    return torch.randn(*shape[:-1], shape[-1] + 3)[..., 1:-2]


# How a matrix of some shape may lie in memory.
LAYOUTS = {
    "rows": lambda *shape: torch.randn(shape),
    "columns": lambda *shape: torch.randn(shape).mT.contiguous().mT,
    "with gaps": gapped,
    "columns with gaps": lambda *shape: gapped(*shape[:-2], shape[-1], shape[-2]).mT,
    "samples in the middle": lambda *shape: gapped(shape[-2], *shape[:-2], shape[-1]).movedim(
        0, -2
    ),
}
LARGE, SMALL = (70, 65, 1300), (7, 5, 3)  # rows, positions, columns: on either side of the bound


@pytest.fixture
def by_onednn(monkeypatch):
    """The shapes of what oneDNN is asked for, which has to be dense."""
    asked = []
    plain = matmul._onednn()

    def recorded(x, weight, *others):
        assert weight.is_contiguous() or weight.t().is_contiguous(), "a slow product, by reference"
        asked.append((len(x), len(weight)))
        return plain(x, weight, *others)

    if plain is not None:
        monkeypatch.setattr(matmul, "_onednn", lambda: recorded)
    return asked


def close(ours: torch.Tensor, truth: torch.Tensor) -> None:
    torch.testing.assert_close(ours.double(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("magnitude", [torch.abs, torch.square])
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("shape", [LARGE, SMALL])
def test_product(by_onednn, first, second, shape, magnitude, positive):
    m, t, n = shape
    a, b, total = LAYOUTS[first](t, m), LAYOUTS[second](t, n), LAYOUTS[first](m, n)
    b = b.abs() if positive else b
    truth = total.double() + magnitude(a.double()).t() @ magnitude(b.double())
    add_product(total, a, b, magnitude)
    close(total, truth)
    assert bool(by_onednn) == (shape == LARGE and matmul.has_onednn())


@pytest.mark.parametrize("magnitude", [torch.abs, torch.square])
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("shape", [LARGE, SMALL])
def test_magnitudes(by_onednn, first, second, shape, magnitude):
    m, t, n = shape
    a, b, total = LAYOUTS[first](3, m, t), LAYOUTS[second](3, t, n), torch.rand(m, n)
    truth = total.double() + magnitude(a.double() @ b.double()).sum(0)
    add_magnitudes(total, a, b, magnitude)
    close(total, truth)
    assert bool(by_onednn) == (shape == LARGE and matmul.has_onednn())


@pytest.mark.parametrize("missing", [True, False])
def test_without_onednn_torch_multiplies(monkeypatch, missing):
    """Where the operation is missing, or is not what it was."""
    if missing:
        monkeypatch.delattr(torch.ops.mkldnn, "_linear_pointwise", raising=False)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    else:
        other = lambda x, weight, *others: x @ weight.t()  # noqa: E731, without the activation
        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", other, raising=False)
    monkeypatch.setattr(matmul, "_onednn", matmul._onednn.__wrapped__)
    assert not matmul.has_onednn()
    m, t, n = LARGE
    a, b, total = torch.randn(2, m, t), torch.randn(2, t, n), torch.zeros(m, n)
    add_magnitudes(total, a, b, torch.abs)
    close(total, (a.double() @ b.double()).abs().sum(0))


def test_on_processors_of_intel_torch_multiplies(monkeypatch, by_onednn):
    monkeypatch.setattr(matmul, "_is_of_intel", lambda: True)
    m, t, n = LARGE
    a, b, total = torch.randn(2, m, t), torch.randn(2, t, n), torch.zeros(m, n)
    add_magnitudes(total, a, b, torch.abs)
    close(total, (a.double() @ b.double()).abs().sum(0))
    assert not by_onednn


@needs_onednn
def test_the_trial_does_not_depend_on_defaults(monkeypatch):
    monkeypatch.setattr(matmul, "_onednn", matmul._onednn.__wrapped__)
    dtype = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            assert matmul.has_onednn()
    finally:
        torch.set_default_dtype(dtype)


def test_blocks_of_rows(monkeypatch, by_onednn):
    """The last one is smaller."""
    monkeypatch.setattr(matmul, "BLOCK_BYTES", 32 * 1300 * 4)
    monkeypatch.setattr(matmul, "MIN_ONEDNN_FLOPS", 0)
    a, b, total = torch.randn(2, 70, 50), torch.randn(2, 50, 1300), torch.zeros(70, 1300)
    add_magnitudes(total, a, b, torch.abs)
    close(total, (a.double() @ b.double()).abs().sum(0))
    if matmul.has_onednn():
        assert by_onednn == [(32, 1300)] * 4 + [(6, 1300)] * 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(value):
    a, b, total = torch.zeros(1, 70, 50), torch.randn(1, 50, 1300), torch.zeros(70, 1300)
    a[0, 3, 7] = value
    add_magnitudes(total, a, b, torch.abs)
    torch.testing.assert_close(total, (a[0] @ b[0]).abs(), equal_nan=True)
    assert not total[3].isfinite().any()
    assert total[4:].isfinite().all()


def test_few_samples_are_added_by_torch(by_onednn):
    """Which writes the sum at once; a product of its own would be written and read besides."""
    a, b, total = torch.randn(9, 3000), torch.randn(9, 200), torch.zeros(3000, 200)
    add_product(total, a, b, torch.abs)
    close(total, a.double().abs().t() @ b.double().abs())
    assert not by_onednn


def test_float64_stays_float64(by_onednn):
    m, t, n = LARGE
    a, b = torch.randn(t, m, dtype=torch.float64), torch.randn(t, n, dtype=torch.float64)
    total = torch.zeros(m, n, dtype=torch.float64)
    add_product(total, a, b, torch.abs)
    torch.testing.assert_close(total, a.abs().t() @ b.abs(), rtol=1e-13, atol=1e-13)
    assert not by_onednn


@pytest.mark.parametrize("shape", [LARGE, SMALL])
def test_low_precision_is_multiplied_in_float32(shape):
    """Its products, rounded to the operands' own precision, would be off in the third digit."""
    m, t, n = shape
    a, b, total = (
        torch.randn(2, m, t).bfloat16(),
        torch.randn(2, t, n).bfloat16(),
        torch.zeros(m, n),
    )
    add_magnitudes(total, a, b, torch.abs)
    close(total, (a.double() @ b.double()).abs().sum(0))
    few, more = a[0].t(), b[0]
    add_product(total.zero_(), few, more, torch.abs)
    close(total, few.double().abs().t() @ more.double().abs())


def factors(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(samples, 70), torch.randn(samples, 1300)


def test_sums_that_wait_become_one_product(by_onednn):
    waiting, total = Products(), torch.zeros(70, 1300)
    truth = torch.zeros(70, 1300, dtype=torch.float64)
    for a, b in (factors(40), factors(40)):
        truth += a.double().abs().t() @ b.double().abs()
        waiting.add(total, a, b, torch.abs)
        a.zero_(), b.zero_()  # what waits is its own
    assert not total.any()
    waiting.flush()
    close(total, truth)
    if matmul.has_onednn():
        assert sum(rows for rows, _ in by_onednn) == 70  # as one: alone they are too few


def test_a_large_batch_does_not_wait():
    """It would take memory, and gain nothing."""
    waiting, total = Products(), torch.zeros(70, 1300)
    a, b = factors(matmul.MAX_WAITING_SAMPLES)
    waiting.add(total, a, b, torch.abs)
    close(total, a.double().abs().t() @ b.double().abs())


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(90, 80), nn.ReLU(), nn.Linear(80, 70)), (90,)),
    "positions": (
        lambda: nn.Sequential(nn.Linear(40, 64), nn.GELU(), nn.Linear(64, 32), nn.Flatten()),
        (9, 40),
    ),
    "few positions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 60, 3, 2, 1), nn.ReLU(), nn.Conv2d(60, 80, 2), nn.Flatten()
        ),
        (3, 6, 6),
    ),
}  # fmt: skip


@needs_onednn
@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
@pytest.mark.parametrize("name", MODELS)
def test_importance_by_onednn(monkeypatch, by_onednn, estimate, name):
    """Ω in float32 by oneDNN is that in float64, which torch's own product gives."""
    torch.manual_seed(0)
    build, shape = MODELS[name]
    model, x = build().eval(), torch.randn(11, *shape)
    for bound in ("MIN_ONEDNN_FLOPS", "MIN_ONEDNN_SAMPLES"):
        monkeypatch.setattr(matmul, bound, 0)
    ours = estimate(model, x)
    assert by_onednn
    truth = estimate(model.double(), x.double())
    for parameter, omega in ours.items():
        torch.testing.assert_close(omega.double(), truth[parameter], rtol=1e-4, atol=1e-6)
