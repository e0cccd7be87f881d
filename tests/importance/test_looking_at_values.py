"""Samples that make a network take the same way are measured together, any others alone."""

import pytest
import torch
from judge import naive_importance, worst_error
from networks import module
from torch import nn
from twin import layerwise_importance

from avalanche_mas import check_model, estimate_importance, estimate_local_importance

LOOKS = {
    "bool": lambda x: (x > 2).any(),
    "equal": lambda x: not torch.equal(x.clamp(max=2), x),
    "allclose": lambda x: not torch.allclose(x.clamp(max=2), x),
    "is_nonzero": lambda x: torch.is_nonzero((x > 2).sum()),
    "item": lambda x: x.max().item() > 2,
    "tolist": lambda x: max(x.flatten().tolist()) > 2,
    "numpy": lambda x: x.detach().numpy().max() > 2,
    "asarray": lambda x: memoryview(x.detach().numpy()).tobytes() != b"" and x.numpy().max() > 2,
    "in": lambda x: 3.0 in x,
    "format": lambda x: float(f"{x.max():.3f}") > 2,
    "masked": lambda x: x[x > 2].numel() > 0,
    "nonzero": lambda x: len((x > 2).nonzero()) > 0,
    "argwhere": lambda x: len(torch.argwhere(x > 2)) > 0,
    "masked_select": lambda x: x.masked_select(x > 2).numel() > 0,
    "unique": lambda x: len((x > 2).unique()) > 1,
    "index": lambda x: [False, True][(x > 2).any().long()],
    "len of a slice": lambda x: len(x[: int((x > 2).sum())]) > 0,
    "repeat_interleave": lambda x: len(torch.repeat_interleave((x > 2).any().long()[None])) > 0,
}


def branch(looks):
    def forward(self, x):
        h = self.layer(x)
        return self.head(torch.tanh(h * 3 if looks(x) else h))

    return module(forward, layer=nn.Linear(4, 4), head=nn.Linear(4, 3)).double()


def one_large():
    x = torch.randn(16, 4).double().clamp(max=1.9)
    x[10, 0] = 3
    return x


@pytest.mark.parametrize("looks", LOOKS.values(), ids=LOOKS)
def test_every_way_to_look(looks):
    model, x = branch(looks), one_large()
    ours = estimate_importance(model, x)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10
    tells_each_apart = looks in [LOOKS[name] for name in ("item", "tolist", "numpy", "format")]
    if tells_each_apart or looks is LOOKS["asarray"]:
        assert set(ours.fallbacks) == set(ours)
        assert all("values" in reason for reason in ours.fallbacks.values())
    else:
        assert not ours.fallbacks
    local = estimate_local_importance(model, x)
    assert worst_error(local, estimate_local_importance(model, x, batch_size=1)) < 1e-10


@pytest.mark.parametrize(
    "looks",
    [
        lambda x, self: self.step > 0,
        lambda x, self: torch.equal(self.step, torch.tensor(1)),
        lambda x, self: self.layer.weight.shape[0] > 2,
        lambda x, self: x.shape[1] > 2 and x.is_floating_point() and x.dim() == 2,
        lambda x, self: self.layer.bias.numel() > 1 and str(x.dtype) == "torch.float64",
        lambda x, self: len(x) > 0 and x.stride()[-1] == 1 and not x.is_sparse,
        lambda x, self: int(torch.arange(3).sum()) > 2,
    ],
)
def test_looking_at_what_no_sample_changes_costs_nothing(looks):
    def forward(self, x):
        h = torch.relu(self.layer(x))
        return self.head(h * 2 if looks(x, self) else h)

    model = module(forward, layer=nn.Linear(4, 5), head=nn.Linear(5, 2)).double()
    model.register_buffer("step", torch.tensor(3))
    x = torch.randn(8, 4).double()
    ours = estimate_importance(model, x)
    assert not ours.fallbacks
    assert worst_error(ours, naive_importance(model, x)) < 1e-10


def test_indexing_without_a_mask_is_no_look():
    def forward(self, x):
        return self.layer(x[:, torch.tensor([2, 0, 1])])

    model, x = module(forward, layer=nn.Linear(3, 2)), torch.randn(6, 4)
    assert not estimate_importance(model, x).fallbacks


PASSES = []  # global: what a hook's closure holds is copied with the network it is measured on


def note_size(module, inputs):
    PASSES.append(len(inputs[0]))


def asks_for_padding(x, mask, self):
    h = self.layer(x)
    return self.head((h if mask.all() else h * mask[:, :, None]).sum(1))


def padded(lengths):
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    return {"x": torch.randn(len(lengths), 5, 4).double(), "mask": mask}


def test_masks_that_were_seen_before_cost_nothing():
    """One sample of each length is asked once; then each way takes a single pass, which is told
    what the samples were told."""
    model = module(
        lambda self, x, mask: asks_for_padding(x, mask, self),
        layer=nn.Linear(4, 6),
        head=nn.Linear(6, 3),
    ).double()
    batches = [padded([5, 1, 2, 5, 3, 4, 5, 4, 2]) for _ in range(3)]
    estimate_importance(model, batches[:1])
    model.layer.register_forward_pre_hook(note_size)
    counts = []
    for n in (2, 3):  # at 4, samples are looked at apart
        PASSES.clear()
        ours = estimate_importance(model, batches[:n])
        counts.append(len(PASSES))
    assert not ours.fallbacks
    assert counts[1] - counts[0] == 2
    single = [{k: v[i : i + 1] for k, v in b.items()} for b in batches for i in range(9)]
    model.layer._forward_pre_hooks.clear()
    assert worst_error(ours, estimate_importance(model, single, engine="loop")) < 1e-10


def test_samples_that_answer_otherwise_together():
    """Alone each sample has a small sum, all of them together have not."""

    def forward(self, x):
        h = self.layer(x)
        return self.head(torch.tanh(h * 3 if x.sum() > 20 else h))

    model = module(forward, layer=nn.Linear(4, 4), head=nn.Linear(4, 3)).double()
    x = torch.rand(16, 4).double()
    ours = estimate_importance(model, x)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10
    assert set(ours.fallbacks) == set(ours)
    local = estimate_local_importance(model, x)
    assert worst_error(local, estimate_local_importance(model, x, batch_size=1)) < 1e-10


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda x: bool(x.sum() > 20), id="branch"),
        pytest.param(lambda x: (x.sum() / 20).floor().int().item(), id="number"),
        pytest.param(lambda x: len((x.sum(1).cumsum(0) > 20).nonzero()) > 0, id="shape"),
    ],
)
def test_a_later_batch_that_answers_otherwise_together(ask):
    """The first one agreed with its samples; that the same operations run shows nothing."""

    def forward(self, x):
        return self.head(torch.tanh(self.layer(x) * (1 + 2 * ask(x))))

    model = module(forward, layer=nn.Linear(4, 4), head=nn.Linear(4, 3)).double()
    batches = [torch.rand(16, 4).double() * size for size in (0.1, 0.2, 1.0, 0.1, 1.0)]
    ours = estimate_importance(model, batches)
    assert worst_error(ours, naive_importance(model, torch.cat(batches))) < 1e-10
    assert set(ours.fallbacks) == set(ours)
    assert not estimate_importance(model, batches[:2]).fallbacks


def test_what_only_large_batches_are_asked():
    """The plan, of two and three samples, knows the first question only."""

    def forward(self, x):
        h = self.layer(x)
        h = torch.tanh(h) if (x >= 0).all() else h
        scale = 3 if len(x) > 8 and x.sum().item() > 20 else 1
        return self.head(h * scale)

    model = module(forward, layer=nn.Linear(4, 4), head=nn.Linear(4, 3)).double()
    batches = [torch.rand(16, 4).double() * size for size in (0.1, 0.2, 1.0, 0.1, 1.0)]
    ours = estimate_importance(model, batches)
    assert worst_error(ours, naive_importance(model, torch.cat(batches))) < 1e-10


def test_longer_samples_are_asked_more():
    def forward(self, x):
        h = self.layer(x)
        if (x[:, 0] > 0).any() and x.shape[1] > 3 and (x[:, 1] > 0).any():
            h = torch.tanh(h)
        return self.head(h.sum(1))

    model = module(forward, layer=nn.Linear(2, 4), head=nn.Linear(4, 3)).double()
    batches = [torch.randn(8, length, 2).double() for length in (3, 5, 3, 6)]
    ours = estimate_importance(model, batches)
    single = [x[k : k + 1] for x in batches for k in range(8)]
    assert worst_error(ours, estimate_importance(model, single, engine="loop")) < 1e-10
    assert not ours.fallbacks


def test_what_only_a_lone_sample_uses_is_reported():
    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.b(x)

    model = module(forward, a=nn.Linear(4, 3), b=nn.Linear(4, 3)).double()
    x = torch.rand(8, 4).double() * torch.tensor([1.0] + [-1.0] * 7)[:, None]
    table = check_model(model, x)
    assert table.loc[["a.weight", "a.bias"], "measured"].eq("fallback").all()
    assert table.loc[["b.weight", "b.bias"], "measured"].eq("rule").all()
    assert set(estimate_importance(model, x).fallbacks) == {"a.weight", "a.bias"}


def test_padded_lengths_are_planned_once_and_checked_together():
    """A text model meets many lengths; each is planned, but only the first is compared."""
    model = module(
        lambda self, x: self.head(
            torch.tanh(self.layer(x.flatten(0, 1))).unflatten(0, x.shape[:2]).sum(1)
        ),
        layer=nn.Linear(4, 6),
        head=nn.Linear(6, 3),
    )
    model.double().layer.register_forward_pre_hook(note_size)
    lengths = (4, 6, 5, 7)
    batches = [torch.randn(16, n, 4).double() for n in lengths]

    def passes(number):
        PASSES.clear()
        ours = estimate_importance(model, batches[:number])
        assert not ours.fallbacks
        return len(PASSES)

    # one that does not fit, six that plan, a sample (or two, in batches 2 and 4), the batch; and
    # where it is longer than all before, one that is asked whose the entries are
    assert [passes(number + 1) - passes(number) for number in range(1, 4)] == [10, 9, 10]


@pytest.mark.parametrize("size", [1, 6])
def test_layers_that_the_first_samples_hardly_use(size):
    """Of two samples as of three, one goes on; and of some, no word goes to the second expert."""

    def exits(self, x):
        h = torch.tanh(self.first(x[:, 0]))
        unsure = (x[:, 0, 0] > 0).nonzero()[:, 0]
        return self.head(h.index_add(0, unsure, torch.tanh(self.second(h[unsure]))))

    def routes(self, x):
        words = x.flatten(0, 1)
        there, second = words[:, 0].abs() > 1, words[:, 0] > 1
        h = words.new_zeros(len(words), 4)
        h[there & ~second] = torch.tanh(self.first(words[there & ~second]))
        h[second] = torch.tanh(self.second(words[second]))
        return self.head(h.unflatten(0, x.shape[:2]).sum(1))

    for forward in exits, routes:
        for seed in range(3):
            torch.manual_seed(seed)
            parts = {"first": nn.Linear(4, 4), "second": nn.Linear(4, 4), "head": nn.Linear(4, 3)}
            model, x = module(forward, **parts).double(), torch.randn(8, 5, 4).double() * 1.5
            truth, _ = layerwise_importance(model, x)
            local = estimate_local_importance(model, x, batch_size=size)
            assert worst_error(local, truth) < 1e-10
