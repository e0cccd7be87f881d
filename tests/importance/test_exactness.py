"""Every engine computes Eq. 2 exactly, for every network, batch size and order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import length, naive_importance, one_sample, worst_error
from networks import ZOO, build, live_in, module
from torch import nn
from torch.utils.data import DataLoader, Dataset

from avalanche_mas import estimate_importance
from avalanche_mas.importance.batches import call_model, model_input
from avalanche_mas.importance.exact import Exact, zeros
from avalanche_mas.importance.network import Network
from avalanche_mas.importance.untouched import untouched

EXACT = 1e-10


class Samples(Dataset):
    """A tensor, or a dict of tensors, sample by sample."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return length(self.data)

    def __getitem__(self, k):
        one = one_sample(self.data, k)
        return {n: t[0] for n, t in one.items()} if isinstance(one, dict) else one[0]


def in_batches(data, batch_size, shuffle):
    generator = torch.Generator().manual_seed(5)
    return DataLoader(Samples(data), batch_size, shuffle=shuffle, generator=generator)


def naive(model, data):
    return naive_importance(model, model_input(data) if isinstance(data, dict) else data)


@pytest.fixture(scope="module")
def judged():
    """network name → (model, data, truth), each computed once."""
    known = {}

    def get(name):
        if name not in known:
            torch.manual_seed(0)
            model, data = build(name)
            known[name] = model, data, naive(model, data)
        return known[name]

    return get


@pytest.mark.parametrize("shuffle", [False, True], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("batch_size", [1, 7, 9])
@pytest.mark.parametrize("name", ZOO)
def test_exact_engine_equals_the_judge(judged, name, batch_size, shuffle):
    model, data, truth = judged(name)
    ours = estimate_importance(model, in_batches(data, batch_size, shuffle), engine="exact")
    assert ours.samples == length(data)
    assert worst_error(ours, truth) < EXACT


@pytest.mark.parametrize("engine", ["loop", "vmap"])
@pytest.mark.parametrize("name", ZOO)
def test_reference_engines_equal_the_judge(judged, name, engine):
    model, data, truth = judged(name)
    if engine == "vmap" and not ZOO[name].vmap:
        with pytest.raises(RuntimeError):
            estimate_importance(model, in_batches(data, 7, False), engine="vmap")
        return
    ours = estimate_importance(model, in_batches(data, 7, True), engine=engine)
    assert worst_error(ours, truth) < EXACT


@pytest.mark.parametrize("name", ZOO)
def test_falls_back_only_where_it_must(judged, name):
    """Falling back is exact, but it costs the time of the slow engines: it must not spread."""
    model, data, _ = judged(name)
    network = Network(model, call_model)
    engine = Exact(network, dict(network.parameters_by_name))
    with untouched(model):
        engine(model_input(data), zeros(engine.parameters))
    allowed = tuple(f"{slow}." for slow in ZOO[name].slow)
    spread = {p: why for p, why in engine.unruled.items() if not f"{p}.".startswith(allowed)}
    assert not spread


def test_auto_is_exact(judged):
    model, data, truth = judged("residual")
    assert worst_error(estimate_importance(model, data), truth) < EXACT


def test_the_judge_can_tell(judged):
    """A sign error in one of many entries is seen."""
    model, data, truth = judged("mlp")
    ours = {name: omega.clone() for name, omega in estimate_importance(model, data).items()}
    ours["1.weight"][0, 0] *= 1 + 1e-6
    assert worst_error(ours, truth) > EXACT


def test_heads_that_alternate_between_batches():
    def forward(self, x, task):
        return self.heads[int(task[0])](torch.tanh(self.body(x)))

    model = module(
        forward,
        body=nn.Linear(5, 4),
        heads=nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 3)]),
    ).double()
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    tasks = [0, 1, 0, 1, 1, 0]  # the third head is never used
    batches = [(x[i], torch.full((4,), task)) for i, task in enumerate(tasks)]
    truth = None
    for inputs, task in batches:
        one = naive_importance(model, inputs, lambda m, b, task=task: m(b, task))
        truth = one if truth is None else {n: truth[n] + one[n] for n in one}
    truth = {name: omega / len(batches) for name, omega in truth.items()}
    for engine in ("exact", "loop"):
        ours = estimate_importance(model, batches, engine=engine, forward=lambda m, b: m(*b))
        assert worst_error(ours, truth) < EXACT
        assert not ours["heads.2.weight"].any()


def test_a_mask_that_only_some_batches_have():
    """The same operation with and without one of its arguments is not the same operation."""

    def forward(self, x, mask=None):
        return self.attention(x, x, x, key_padding_mask=mask)[0]

    model = module(forward, attention=nn.MultiheadAttention(6, 2, batch_first=True)).double()
    x = torch.randn(4, 3, 6, dtype=torch.float64)
    mask = torch.zeros(4, 3, dtype=torch.bool)
    mask[:, 2] = mask[1, 1] = True
    with_mask, without = {"x": x, "mask": mask}, {"x": x}
    a, b = naive_importance(model, with_mask), naive_importance(model, without)
    truth = {name: (a[name] + b[name]) / 2 for name in a}
    for batches in ([with_mask, without], [without, with_mask]):
        assert worst_error(estimate_importance(model, batches), truth) < EXACT


def test_samples_of_different_lengths():
    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)).mean(2))

    model = module(forward, conv=nn.Conv1d(3, 4, 3), head=nn.Linear(4, 2)).double()
    batches = [torch.randn(n, 3, t, dtype=torch.float64) for n, t in ((2, 5), (3, 9), (1, 4))]
    total = [naive_importance(model, batch) for batch in batches]
    truth = {
        name: sum(len(b) * one[name] for b, one in zip(batches, total, strict=True)) / 6
        for name in total[0]
    }
    assert worst_error(estimate_importance(model, batches), truth) < EXACT


def test_a_batch_smaller_than_the_check():
    torch.manual_seed(1)
    model, data = build("cnn_stride_padding")
    truth = naive(model, data[:2])
    assert worst_error(estimate_importance(model, data[:2]), truth) < EXACT


@pytest.mark.parametrize("engine", ["exact", "vmap", "loop", "batch"])
def test_no_output_depends_on_a_parameter(engine):
    model = module(lambda self, x: x * 2, layer=nn.Linear(5, 3))
    ours = estimate_importance(model, torch.randn(4, 5), engine=engine)
    assert all(not omega.any() for omega in ours.values())
    assert ours.samples == 4


def test_overwritten_input_is_an_error():
    """What could not be trained either, as in autograd itself."""

    def forward(self, x):
        x = self.a(x)
        y = self.b(x)
        x.mul_(2)
        return y + x

    model = module(forward, a=nn.Linear(5, 5), b=nn.Linear(5, 5))
    for engine in ("exact", "loop"):
        with pytest.raises(RuntimeError, match=r"modified by an in-?place operation"):
            estimate_importance(model, torch.randn(4, 5), engine=engine)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit"])
def test_torchvision(name):
    import torchvision.models as zoo

    makers = {
        "resnet18": lambda: zoo.resnet18(num_classes=4),
        "mobilenet_v2": lambda: zoo.mobilenet_v2(num_classes=4, width_mult=0.25),
        "vit": lambda: zoo.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4),
    }
    model = makers[name]().double()
    live_in(model)
    for parameter in model.parameters():
        if not parameter.any():  # ViT starts with a head of zeros
            nn.init.normal_(parameter, 0, 0.2)
    data = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    ours = estimate_importance(model, data, batch_size=3)
    assert worst_error(ours, naive(model, data)) < EXACT


# --- random architectures -------------------------------------------------------------------------

WIDTH = 4
ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, lambda: nn.ReLU(inplace=True)]


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Scale(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(shape) + 0.5)

    def forward(self, x):
        return x * self.scale


@st.composite
def convolutions(draw):
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 2))
    groups = draw(st.sampled_from([1, 2, WIDTH]))
    bias = draw(st.booleans())
    if draw(st.booleans()):
        return nn.ConvTranspose2d(
            WIDTH, WIDTH, kernel, stride=draw(st.integers(1, 2)), groups=groups, bias=bias
        )
    dilation = draw(st.integers(1, 2))
    if draw(st.booleans()):
        return nn.Conv2d(WIDTH, WIDTH, kernel, 1, "same", dilation, groups, bias)
    wide = tuple(dilation * (k - 1) for k in kernel)  # an image never shrinks to nothing
    stride = draw(st.integers(1, 2))
    return nn.Conv2d(WIDTH, WIDTH, kernel, stride, wide, dilation, groups, bias)


NORMS = [
    lambda: nn.BatchNorm2d(WIDTH),
    lambda: nn.GroupNorm(2, WIDTH),
    lambda: Scale((WIDTH, 1, 1)),
]


@st.composite
def image_blocks(draw):
    layers = [draw(convolutions())]
    if draw(st.booleans()):
        layers.append(draw(st.sampled_from(NORMS))())
    layers.append(draw(st.sampled_from(ACTIVATIONS))())
    if draw(st.booleans()):
        layers.append(draw(st.sampled_from([nn.AvgPool2d(2, ceil_mode=True), nn.Dropout(0.3)])))
    return nn.Sequential(*layers)


@st.composite
def vector_blocks(draw):
    inner = nn.Sequential(
        nn.Linear(WIDTH, WIDTH, bias=draw(st.booleans())),
        draw(
            st.sampled_from([nn.Identity, lambda: nn.LayerNorm(WIDTH), lambda: Scale((WIDTH,))])
        )(),
        draw(st.sampled_from(ACTIVATIONS))(),
    )
    return Residual(inner) if draw(st.booleans()) else inner


@st.composite
def architectures(draw):
    images = draw(st.lists(image_blocks(), max_size=2))
    vectors = draw(st.lists(vector_blocks(), min_size=1, max_size=3))
    if draw(st.booleans()):
        vectors.append(vectors[0])  # the same layers once more
    model = nn.Sequential(*images, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *vectors)
    for parameter in model.parameters():
        parameter.requires_grad_(draw(st.integers(0, 5)) > 0)
    next(model[-1].parameters()).requires_grad_(True)
    return model


@settings(max_examples=80)
@given(model=architectures(), batch_size=st.integers(1, 5), seed=st.integers(0, 99))
def test_random_architectures(model, batch_size, seed):
    torch.manual_seed(seed)
    model = model.double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 0.7)
    live_in(model)
    data = torch.randn(5, WIDTH, 5, 6, dtype=torch.float64)
    truth = naive(model, data)
    if any(bool(omega.any()) for omega in truth.values()):  # not all ReLUs dead
        ours = estimate_importance(model, data, batch_size=batch_size)
        # a norm may undo what its layer does, up to its ε: such gradients are mostly round-off
        assert worst_error(ours, truth) < 1e-8
