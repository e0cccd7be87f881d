"""Every engine computes Eq. 2 exactly, for every network, batch size and order."""

import pytest
import torch
from judge import length, naive_importance, one_sample, worst_error
from networks import ZOO, build, module
from torch import nn
from torch.utils.data import DataLoader, Dataset

from avalanche_mas import check_model, estimate_importance
from avalanche_mas.importance.batches import model_input

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
def test_measured_by_a_rule_where_there_is_one(judged, name):
    """Anything else is exact as well, but it costs more: it must not spread."""
    model, data, _ = judged(name)
    assert not ZOO[name].surprises(check_model(model, data)["measured"])


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


def test_samples_of_which_the_first_agree_by_chance():
    """A (T·B) flatten; the gradients of its bias have one sign in the samples that are checked."""
    torch.manual_seed(0)
    model, _ = build("positions_before_samples")
    nn.init.constant_(model.head.bias, 3)  # decides about the sign of small outputs
    data = torch.randn(9, 4, 5, dtype=torch.float64)
    data[3:] *= 10
    nn.init.uniform_(model.head.weight, -2, 2)
    assert worst_error(estimate_importance(model, data), naive(model, data)) < EXACT


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
