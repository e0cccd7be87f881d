"""What makes Ω cheap, in numbers of operations, FLOPs and bytes: a clock would have to be trusted.

The measure is a plain forward and backward pass of the same model and batch, counted here as well.
Work for each batch is what estimating three equal batches takes beyond estimating two.
"""

import pytest
import torch
from counting import Work, work_of
from networks import free, live_in, module
from torch import nn
from torch.nn.utils import parametrizations

from avalanche_mas import estimate_importance, estimate_local_importance
from avalanche_mas.importance.engines import plan
from avalanche_mas.importance.rules import matmul, per_sample

B = 16
WEIGHT_ONLY, INPUT_ONLY = (False, True, False), (True, False, False)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return torch.relu(self.body(x) + x)


MODELS = {
    "mlp": lambda: [nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 50), nn.ReLU(), nn.Linear(50, 10)],
    "alexnet": lambda: [
        nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 5),
    ],
    "resnet": lambda: [
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        Block(8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ],
    "transformer": lambda: [
        nn.Linear(8, 16),
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True), 2,
            enable_nested_tensor=False,
        ),
        nn.Flatten(), nn.Linear(5 * 16, 4),
    ],
}  # fmt: skip
SHAPES = {
    "mlp": (40,), "alexnet": (3, 32, 32), "resnet": (3, 16, 16), "transformer": (5, 8)
}  # fmt: skip


def case(name: str) -> tuple[nn.Module, torch.Tensor]:
    model = nn.Sequential(*MODELS[name]()).eval()
    live_in(model)
    return model, torch.randn(B, *SHAPES[name])


def plain(model: nn.Module, x: torch.Tensor) -> Work:
    """A forward and a backward pass, as in training."""
    work = work_of(lambda: model(x).square().sum().backward(), model)
    model.zero_grad(set_to_none=True)
    return work


def steady(model: nn.Module, x: torch.Tensor, estimate=estimate_importance) -> Work:
    """The third of three equal batches: of the first two, samples are looked at apart as well."""
    two = work_of(lambda: estimate(model, [x] * 2), model)
    return work_of(lambda: estimate(model, [x] * 3), model).since(two)


def nbytes(model: nn.Module) -> int:
    return sum(p.nbytes for p in model.parameters())


def counted(work: Work, *names: str) -> int:
    return sum(n for (name, _, _), n in work.products.items() if name in names)


def backward_masks(work: Work) -> dict[tuple[bool, ...], int]:
    masks: dict[tuple[bool, ...], int] = {}
    for (name, _, mask), n in work.products.items():
        if name == "convolution_backward":
            masks[mask] = masks.get(mask, 0) + n
    return masks


@pytest.mark.parametrize("name", MODELS)
def test_exact_takes_the_flops_of_a_backward_pass(name):
    """All per-sample gradients for the price of their sum, and none for the network's input."""
    model, x = case(name)
    ours, floor = steady(model, x), plain(model, x)
    assert floor.flops > 0
    assert ours.flops <= floor.flops
    assert ours.passes == floor.passes == [B]


def test_a_linear_layer_takes_one_product():
    """|Δ|ᵀ|A| at once, δ for all but the first layer, and no weight gradient besides."""
    model, x = case("mlp")
    ours = steady(model, x)
    layers = [m for m in model if isinstance(m, nn.Linear)]
    into_omega = {
        key[1][0]: n for key, n in ours.products.items() if key[0] == "addmm_"
    }  # shape of the matrix that the product is added to
    assert into_omega == {tuple(layer.weight.shape): 1 for layer in layers}
    assert counted(ours, "addmm") == len(layers)  # the forward pass
    assert counted(ours, "mm") == len(layers) - 1  # δ
    assert sum(ours.products.values()) == 3 * len(layers) - 1


def test_a_small_convolution_takes_the_weight_gradients_of_the_batch_at_once(monkeypatch):
    """By the library's own kernel; the activation's gradient once, and not for the images."""
    model, x = case("alexnet")
    weights = [m.weight for m in model if isinstance(m, nn.Conv2d)]
    expected = {WEIGHT_ONLY: len(weights), INPUT_ONLY: len(weights) - 1}
    assert backward_masks(steady(model, x)) == expected
    # or of as many as fit a bound, here five; the largest one alone
    monkeypatch.setattr(per_sample, "CACHED_BYTES", 5 * weights[0].nbytes)
    pieces = [-(-B // max(1, 5 * weights[0].nbytes // weight.nbytes)) for weight in weights]
    expected[WEIGHT_ONLY] = sum(pieces)
    assert pieces[0] == 4
    assert pieces[-1] == B
    assert backward_masks(steady(model, x)) == expected


def test_a_convolution_of_few_positions_takes_one_product_for_each_sample():
    """With the patches of that sample, which are not kept; the library is asked for δ only."""
    model = nn.Sequential(nn.Conv2d(4, 60, 3), nn.ReLU(), nn.Conv2d(60, 40, 2), nn.Flatten()).eval()
    live_in(model)
    x = torch.randn(B, 4, 5, 5)
    ours, floor = steady(model, x), plain(model, x)
    assert backward_masks(ours) == {INPUT_ONLY: 1}
    assert counted(ours, "mm") == 2 * B
    assert ours.flops == floor.flops
    assert max(ours.peaks) <= max(floor.peaks) + 1.2 * nbytes(model)


@pytest.mark.skipif(matmul._onednn() is None, reason="torch has no oneDNN here")
@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_large_products_are_onednns(monkeypatch, name):
    """No more work than torch.mm would have, and where samples have positions, no |·| besides."""
    monkeypatch.setattr(matmul, "_is_of_intel", lambda: False)
    model, x = case(name)
    before = steady(model, x)
    for bound in ("MIN_ONEDNN_FLOPS", "MIN_ONEDNN_SAMPLES"):
        monkeypatch.setattr(matmul, bound, 0)
    ours = steady(model, x)
    assert counted(ours, "_linear_pointwise") > 0
    assert counted(ours, "addmm_") == 0
    assert ours.flops == before.flops
    if name == "transformer":
        saved = counted(before, "mm") - counted(ours, "mm")
        assert saved > 0
        assert ours.operations["abs"] <= before.operations["abs"] - saved


@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
@pytest.mark.parametrize("name", MODELS)
def test_memory_stays_near_that_of_a_backward_pass(name, estimate, monkeypatch):
    """Ω included. Written out, the gradients of a batch alone would take B times the parameters.

    l-MAS adds to a copy of Ω until it knows that a pass went as planned. Those of small
    convolutions are written out, up to a bound that counts in a miniature alone.
    """
    monkeypatch.setattr(per_sample, "CACHED_BYTES", 0)
    model, x = case(name)
    work = steady(model, x, estimate)
    copies = 1.2 if estimate is estimate_importance else 2.2
    assert max(work.peaks) <= max(plain(model, x).peaks) + copies * nbytes(model)


@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
def test_the_check_takes_three_copies_of_the_parameters(estimate):
    """Ω, the same for the checked samples, and a gradient: in large layers no more than that."""
    model = nn.Sequential(nn.Linear(700, 900), nn.ReLU(), nn.Linear(900, 700)).eval()
    work = work_of(lambda: estimate(model, [torch.randn(4, 700)]), model)
    assert max(work.peaks) <= 3.4 * nbytes(model)


def test_pieces_bound_the_memory(monkeypatch):
    """Four times the batch takes four times the passes, and no more memory than before."""
    model, x = case("resnet")
    sample = 8 * 8 * 8 * 4  # the largest activation: 8 channels of 8 × 8
    monkeypatch.setattr(plan, "ACTIVATION_BYTES", B * sample)
    small, large = steady(model, x), steady(model, x.repeat(4, 1, 1, 1))
    assert small.passes == [B]
    assert large.passes == [B] * 4
    assert large.flops == 4 * small.flops
    assert max(large.peaks) <= max(small.peaks) * 1.1


def used_twice(self, x):
    return self.layer(torch.tanh(self.layer(x)))


WRITTEN_OUT = {
    "views of one weight": lambda: module(
        lambda self, x: torch.tanh(x @ self.weight) @ self.weight.t(), weight=free(50, 50)
    ),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(50, 50)),
    "layer used twice": lambda: module(used_twice, layer=nn.Linear(50, 50)),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_what_is_written_out_is_written_in_chunks(monkeypatch, name):
    """Gradients of which there is no shorter form: a few samples at a time, not B at once."""
    model, x = WRITTEN_OUT[name](), torch.randn(B, 50)
    monkeypatch.setattr(per_sample, "CACHED_BYTES", nbytes(model))
    limit = max(plain(model, x).peaks) + 1.2 * nbytes(model) + 4 * per_sample.CACHED_BYTES
    assert limit < B * nbytes(model)
    assert max(steady(model, x).peaks) <= limit


@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
@pytest.mark.parametrize("name", MODELS)
def test_planned_and_checked_once(name, estimate):
    """On few samples, and on outputs of the first batch; then one forward pass for each batch, and
    for global MAS a few samples of batches 2, 4, 8 and so on."""
    model, x = case(name)
    work = work_of(lambda: estimate(model, [x] * 5), model)
    eighth, again = B // 8, [2] if estimate is estimate_importance else []
    batches = [eighth] * 8 + [B] + again + [B, B] + again + [B, B]
    planning = work.passes[: -len(batches)]
    assert work.passes == planning + batches
    assert sum(planning) <= 1.5 * B
    assert max(planning) <= 3


@pytest.mark.parametrize("name", ["mlp", "alexnet"])
def test_local_runs_forward_only(monkeypatch, name):
    """With ReLUs not even the activations are differentiated."""
    monkeypatch.setattr(torch.autograd, "grad", None)
    model, x = case(name)
    ours, floor = steady(model, x, estimate_local_importance), plain_forward(model, x)
    backward = {op for op in ours.operations if op.endswith("backward")}
    assert backward <= {"convolution_backward"}  # the product for Ω
    assert INPUT_ONLY not in backward_masks(ours)
    assert ours.passes == [B]
    # a forward pass, and one product as large as the layer's own for each layer
    assert ours.flops == 2 * floor.flops


def plain_forward(model: nn.Module, x: torch.Tensor) -> Work:
    return work_of(lambda: model(x), model)


def test_local_merges_what_cannot_cancel():
    """Behind a ReLU the batch takes one weight gradient. The images themselves have both signs."""
    model, x = case("alexnet")
    convolutions = sum(isinstance(m, nn.Conv2d) for m in model)
    ours = steady(model, x, estimate_local_importance)
    assert backward_masks(ours) == {WEIGHT_ONLY: convolutions}
