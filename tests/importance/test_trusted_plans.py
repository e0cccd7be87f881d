"""A plan counts for what it has seen: another layout, order or precision is not trusted."""

import copy

import numpy as np
import pytest
import torch
from judge import naive_importance, worst_error
from networks import at_a_kink, free, module
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from avalanche_mas import estimate_importance, estimate_local_importance
from avalanche_mas.importance.shadow import converted


def with_parts(model, batch):
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def samples_of(batches):
    """Batches of one sample each; what all share stays whole."""
    for batch in batches:
        parts = batch if isinstance(batch, tuple) else (batch,)
        size = len(parts[0])
        each = [isinstance(p, torch.Tensor) and p.shape[:1] == (size,) for p in parts]
        for k in range(size):
            own = tuple(
                p[k : k + 1] if is_own else p for p, is_own in zip(parts, each, strict=True)
            )
            yield own if isinstance(batch, tuple) else own[0]


def reference(model, batches):
    """The mean over the samples of all batches, each alone."""
    found = [
        naive_importance(
            model, torch.empty(1), lambda model, _, sample=sample: with_parts(model, sample)
        )
        for sample in samples_of(batches)
    ]
    return {name: sum(omega[name] for omega in found) / len(found) for name in found[0]}


def check(model, batches, **options):
    """Estimates, compares with the reference, and returns the estimate."""
    ours = estimate_importance(model, batches, forward=with_parts, **options)
    exact = 1e-10 if next(model.parameters()).dtype == torch.float64 else 1e-4
    assert worst_error(ours, reference(model, batches)) < exact
    return ours


def turned(self, x, time_first):
    """The same, with the positions or the samples first."""
    size, length, _ = x.shape
    if time_first:
        h = torch.tanh(self.a(x.transpose(0, 1).flatten(0, 1))).view(length, size, -1)
        return self.b(h.transpose(0, 1).mean(1))
    return self.b(torch.tanh(self.a(x.flatten(0, 1))).view(size, length, -1).mean(1))


def permuted(self, x, time_first):
    """The same functions, with other dimensions."""
    order = (1, 0, 2) if time_first else (0, 1, 2)
    h = x.permute(order)
    n = h.shape[:2]
    h = torch.tanh(self.a(h.flatten(0, 1))).unflatten(0, n).permute(order)
    return self.b(h.mean(1))


def permuted_by_size(self, x):
    return permuted(self, x, len(x) > x.shape[1])


def permuted_by_memory(self, x):
    return permuted(self, x, not x.is_contiguous())


def permuted_by_length(self, x):
    return permuted(self, x, x.shape[1] > 8)


def by_size(self, x):
    return turned(self, x, len(x) > x.shape[1])


def by_memory(self, x):
    return turned(self, x, not x.is_contiguous())


def by_dtype(self, x):
    return turned(self, x.double(), x.dtype == torch.uint8)


def by_length(self, x):
    long = x.shape[1] > 8
    return turned(self, functional.adaptive_avg_pool1d(x.mT, 4).mT if long else x, long)


def both_ways(self, x):
    h = self.a(x)
    if len(x) > 7:
        h = h + self.a(x.flip(0)).flip(0)
    return self.b(torch.tanh(h).mean(1))


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("verify", ["growing", "every batch"])
@pytest.mark.parametrize(
    ("forward", "make"),
    [
        (by_size, lambda: [normal(16, 4, 8) for _ in range(3)]),
        (by_memory, lambda: [normal(8, 4, 8), *(normal(4, 8, 8).mT.transpose(0, 1) for _ in "ab")]),
        (by_dtype, lambda: [normal(8, 4, 8), torch.randint(0, 9, (8, 4, 8)).to(torch.uint8)]),
        (by_length, lambda: [normal(8, 6, 8), normal(8, 12, 8), normal(8, 12, 8)]),
        (both_ways, lambda: [normal(3, 4, 8), normal(9, 4, 8)]),
        (turned, lambda: [(normal(8, 4, 8), first) for first in (False, True, False)]),
        (permuted, lambda: [(normal(8, 4, 8), first) for first in (0, 1, 0)]),
        (permuted_by_size, lambda: [normal(16, 4, 8), normal(3, 4, 8)]),
        (permuted_by_memory, lambda: [normal(8, 4, 8), normal(4, 8, 8).transpose(0, 1)]),
        (permuted_by_length, lambda: [normal(8, 6, 8), normal(8, 12, 8)]),
    ],
)
def test_the_layout_of_a_batch_may_change(forward, make, verify):
    torch.manual_seed(0)
    model, data = module(forward, a=nn.Linear(8, 6), b=nn.Linear(6, 3)).double(), make()
    check(model, data, verify=verify)
    local = estimate_local_importance(model, data, forward=with_parts, verify=verify)
    one_by_one = estimate_local_importance(model, list(samples_of(data)), forward=with_parts)
    assert worst_error(local, one_by_one) < 1e-10


def test_parts_of_a_parameter_may_overlap_in_longer_samples():
    def forward(self, x, y):
        first, last = self.p[: x.shape[1]], self.p[-y.shape[1] :]
        return self.b(torch.tanh(x + first).mean(1) * torch.tanh(y + last).mean(1))

    torch.manual_seed(0)
    model = module(forward, p=free(10, 8), b=nn.Linear(8, 3)).double()
    sizes = [(4, 4), (4, 8), (8, 8), (4, 4)]
    ours = check(model, [(normal(6, m, 8), normal(6, n, 8)) for m, n in sizes])
    assert ours.fallbacks == {}


def text(equally_long):
    ids = torch.randint(1, 50, (8, 6))
    for row in range(0 if equally_long else 8):
        ids[row, int(torch.randint(2, 7, ())) :] = 0
    return ids


def sorted_by_length(self, ids):
    lengths, order = (ids != 0).sum(1).sort(descending=True, stable=True)
    states = self.rnn(self.words(ids[order]))[0]
    return self.b(states[torch.arange(len(ids)), lengths - 1][order.argsort()])


def twice(self, ids):
    """Sorted, and beside it as they come."""
    return sorted_by_length(self, ids) + self.c(self.words(ids).mean(1))


def compacted(self, ids):
    """Padding is moved to the end, with whatever sample it is of."""
    flat = ids.flatten()
    order = (flat == 0).to(torch.uint8).argsort(stable=True)
    h = torch.tanh(self.c(self.words(flat[order])))[order.argsort()].view(*ids.shape, -1)
    return (h * (ids != 0)[..., None]).sum(1)


def scattered(self, ids):
    order = (ids != 0).sum(1).argsort(stable=True)
    h = torch.zeros(*ids.shape, 8, dtype=torch.float64)
    h = h.index_copy(0, order, self.words(ids))
    return torch.tanh(self.c(h)).sum(1)[order]


def ranked(pick):
    """Sorted without a sort: each sample's place is how many are shorter."""

    def forward(self, ids):
        lengths, numbers = (ids != 0).sum(1), torch.arange(len(ids))
        before = (lengths == lengths[:, None]) & (numbers < numbers[:, None])
        rank = (lengths > lengths[:, None]).sum(1) + before.sum(1)
        back = (rank == numbers[:, None]).to(torch.uint8).argmax(1)
        h = pick(self.words(ids).flatten(1), rank).view(*ids.shape, -1)
        return pick(torch.tanh(self.c(h)).sum(1), back) + self.c(self.words(ids)).sum(1)

    return forward


looked_up = ranked(lambda h, rank: functional.embedding(rank, h))
taken = ranked(lambda h, rank: h.take(rank[:, None] * h.shape[1] + torch.arange(h.shape[1])))
selected = ranked(lambda h, rank: h.index_select(0, rank))


@pytest.mark.parametrize("verify", ["growing", "every batch"])
@pytest.mark.parametrize(
    "forward", [sorted_by_length, twice, compacted, scattered, looked_up, taken, selected]
)
def test_values_may_decide_about_the_order_of_samples(forward, verify):
    """In the first batch all are equally long, so that they happen to stay where they are."""
    torch.manual_seed(0)
    words, rnn = nn.Embedding(50, 8), nn.GRU(8, 6, batch_first=True)
    model = module(forward, words=words, rnn=rnn, b=nn.Linear(6, 3), c=nn.Linear(8, 3)).double()
    ours = check(model, [text(i == 0) for i in range(4)], verify=verify)
    assert "the order of the samples depends on their values" in ours.fallbacks["words.weight"]


def test_picking_the_last_word_of_each_sample_orders_nothing():
    def forward(self, ids):
        last = (ids != 0).sum(1) - 1
        return self.b(torch.tanh(self.words(ids))[torch.arange(len(ids)), last])

    torch.manual_seed(0)
    model = module(forward, words=nn.Embedding(50, 8), b=nn.Linear(8, 3)).double()
    assert check(model, [text(i == 0) for i in range(3)]).fallbacks == {}


def test_neighbours_within_each_sample_order_nothing():
    """Numbers of points in a table of all samples' points, as graph networks write it."""

    def forward(self, x):
        size, points, _ = x.shape
        nearest = torch.cdist(x, x).topk(3, dim=2, largest=False).indices
        rows = (nearest + points * torch.arange(size)[:, None, None]).flatten()
        h = self.a(x).flatten(0, 1)
        around = h[rows].view(size, points, 3, -1).amax(2)
        return self.b(torch.tanh(around).mean(1))

    torch.manual_seed(0)
    model = module(forward, a=nn.Linear(3, 6), b=nn.Linear(6, 2)).double()
    assert check(model, [normal(6, 5, 3) for _ in range(3)]).fallbacks == {}


def test_a_large_bias_hides_no_dependence():
    def forward(self, x):
        served = torch.arange(len(x)) < 6  # as many as an expert has places for
        return self.b(torch.tanh(self.a(x)) * served[:, None])

    torch.manual_seed(0)
    model = module(forward, a=nn.Linear(8, 6), b=nn.Linear(6, 3))
    nn.init.constant_(model.b.bias, 300.0)
    check(model, [torch.randn(16, 8) for _ in range(3)])


class Same(torch.autograd.Function):
    """What goes in; its gradient is that of the classes below."""

    @staticmethod
    def forward(context, x):
        return x.clone()


class Clipped(Same):
    """The gradient of a batch has a norm of at most three, so that of a few samples is whole."""

    @staticmethod
    def backward(context, delta):
        return delta * (3 / delta.norm().clamp_min(3))


@pytest.mark.filterwarnings("ignore:.*read again")
@pytest.mark.parametrize("sizes", [(64, 64), (4, 64), (1, 3, 64)])
@pytest.mark.parametrize("flags", [(True, True, True), (False, True, True)])
def test_a_backward_pass_of_its_own_is_compared_on_whole_batches(sizes, flags):
    """Of four samples none is clipped; with a flag, none is at first."""

    def forward(self, x, clipped):
        h = torch.tanh(self.a(x))
        return self.b(Clipped.apply(h) if clipped else h)

    torch.manual_seed(0)
    model = module(forward, a=nn.Linear(8, 6), b=nn.Linear(6, 3)).double()
    batches = [(normal(size, 8), flag) for size, flag in zip(sizes, flags, strict=False)]
    ours = check(model, [*batches, batches[-1]])
    assert {"a.weight", "a.bias"} <= set(ours.fallbacks)


class Shared(nn.Linear):
    """Its copies are itself."""

    def __deepcopy__(self, memo):
        return self


class Insists(nn.Linear):
    """On its precision, in a way of its own."""

    def double(self):
        raise ValueError("no")

    float = double

    def forward(self, x):
        assert x.dtype == self.dtype
        return super().forward(x)


@pytest.mark.parametrize("kind", [Shared, Insists])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_opinion_leaves_the_model_as_it_is(kind, dtype):
    """A doubtful difference is looked at in float64, half precision in float32."""
    torch.manual_seed(0)
    layer = kind(4, 16)
    layer.dtype = dtype
    model = at_a_kink(layer).to(dtype)
    before = {name: (t, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    ours = estimate_importance(model, torch.randn(6, 4, dtype=dtype))
    assert ours.samples == 6
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert tensor is before[name][0]
        assert tensor.dtype == dtype
        assert torch.equal(tensor, before[name][1])


def test_another_device_has_a_model_of_its_own():
    model = nn.Sequential(Shared(3, 3), nn.BatchNorm1d(3), nn.LSTM(3, 2))
    moved = converted(model, lambda tensor: tensor.to(torch.float64, copy=True))
    assert {t.dtype for t in moved.parameters()} == {torch.float64}
    memories = [{t.data_ptr() for t in m.parameters()} for m in (moved, model)]
    assert memories[0].isdisjoint(memories[1])
    assert {t.dtype for t in model.parameters()} == {torch.float32}
    x = torch.randn(5, 3)
    ours, theirs = moved(x.double())[0], copy.deepcopy(model.eval()).double()(x.double())[0]
    assert torch.equal(ours, theirs)


class Eighths(torch.autograd.Function):
    """Its gradient has eight bits, with one scale for the whole batch."""

    @staticmethod
    def forward(context, x):
        if x.dtype != torch.float32:
            raise RuntimeError("float32 only")
        return x.clone()

    @staticmethod
    def backward(context, delta):
        scale = delta.abs().amax() / 448
        return (delta / scale).to(torch.float8_e4m3fn).to(delta) * scale


def not_in_float64(self, x):
    h = torch.tanh(self.a(x))
    return self.b(h if h.dtype == torch.float64 else Eighths.apply(h))


def only_in_a_batch(self, x):
    h = torch.tanh(self.a(x))
    return self.b(h if len(h) == 1 else Eighths.apply(h))


@pytest.mark.parametrize("forward", [not_in_float64, only_in_a_batch])
def test_what_float64_does_not_show_is_not_cleared(forward):
    torch.manual_seed(0)
    model = module(forward, a=nn.Linear(32, 64), b=nn.Linear(64, 10))
    check(model, [torch.randn(16, 32) for _ in range(3)])


class Normed(Same):
    """Its gradient is that of all samples together."""

    @staticmethod
    def backward(context, delta):
        return delta / delta.norm()


def test_what_samples_share_is_widened_as_well():
    def forward(self, x, graph):
        return self.b(Normed.apply(torch.tanh(self.a(x @ graph))))

    torch.manual_seed(0)
    model = module(forward, a=nn.Linear(8, 6), b=nn.Linear(6, 3)).bfloat16()
    batch = torch.randn(16, 8).bfloat16(), torch.eye(8).bfloat16()
    ours = estimate_importance(model, [batch], forward=with_parts)
    assert {"a.weight", "a.bias"} <= set(ours.fallbacks)


def test_a_number_for_all_samples_may_decide():
    def forward(self, x, flag):
        h = self.a(x)
        return self.b(torch.tanh(h) if flag else torch.relu(h))

    torch.manual_seed(0)
    model = module(forward, a=nn.Linear(8, 6), b=nn.Linear(6, 3)).double()
    check(model, [(normal(6, 8), torch.tensor(flag)) for flag in (True, False)])


@pytest.mark.parametrize("sparse", ["made", "turned"])
def test_sparse_weights(sparse):
    places = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])

    def forward(self, x):
        if sparse == "made":
            weight = torch.sparse_coo_tensor(places, self.w, (4, 4))
        else:
            weight = torch.diag(self.w).to_sparse()
        return self.b(torch.tanh(torch.sparse.mm(weight, x.T).T))

    torch.manual_seed(0)
    check(module(forward, w=free(4), b=nn.Linear(4, 3)).double(), [normal(5, 4)])


class Coupled(torch.autograd.Function):
    """Its gradient is that of the identity until inputs are large. Then samples are coupled."""

    @staticmethod
    def forward(context, x, large):
        context.save_for_backward(x)
        context.large = large
        return x.clone()

    @staticmethod
    def backward(context, delta):
        (x,) = context.saved_tensors
        return torch.where(x.abs().amax() > context.large, len(delta) * delta, delta), None


@pytest.mark.filterwarnings("ignore:.*read again")
def test_after_a_late_finding_no_rule_is_trusted():
    """What the compared samples showed of one parameter says nothing good of the others."""

    def forward(self, x):
        h = Coupled.apply(torch.tanh(self.a(x)) * x.abs().amax(1, keepdim=True), 5)
        g = Coupled.apply(torch.tanh(self.c(x)) * x.abs().amax(1, keepdim=True), 50)
        return self.b(h + g)

    torch.manual_seed(0)
    layers = {"a": nn.Linear(8, 6), "b": nn.Linear(6, 3), "c": nn.Linear(8, 6)}
    batches = [torch.rand(4, 8).double() * scale for scale in (1, 1, 20, 200)]
    ours = check(module(forward, **layers).double(), batches, verify="every batch")
    assert len(ours.fallbacks) == 6


def pooled(h, mask, dim):
    return (h * mask.unsqueeze(-1)).sum(dim) / mask.sum(dim).clamp_min(1).unsqueeze(-1)


def title_and_body(self, title, body):
    """One encoder for both; the body goes through it time first."""
    a = torch.tanh(self.encoder(self.words(title)))
    turned = body.T
    b = torch.tanh(self.encoder(self.words(turned).flatten(0, 1))).view(*turned.shape, -1)
    return self.head(pooled(a, title != 0, 1) + pooled(b, turned != 0, 0))


def text_model():
    torch.manual_seed(0)
    layers = {
        "words": nn.Embedding(20, 5, padding_idx=0),
        "encoder": nn.Linear(5, 6),
        "head": nn.Linear(6, 3),
    }
    return module(title_and_body, **layers).double()


def texts(size, body):
    words = torch.randint(1, 20, (size, 7))
    return words[:, :3], words[:, 3:] * body


@pytest.mark.filterwarnings("ignore:.*read again")
@pytest.mark.parametrize("size", [3, 8, 32])
def test_where_no_gradient_came_the_layout_is_not_known(size):
    model = text_model()
    batches = [texts(size, filled) for filled in (0, 0, 0, 1, 1)]
    check(model, batches)
    ours = estimate_local_importance(model, batches, forward=with_parts)
    alone = estimate_local_importance(model, list(samples_of(batches)), forward=with_parts)
    assert worst_error(ours, dict(alone)) < 1e-10


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("is_shared", [True, False])
def test_a_gate_may_open_for_few_samples(is_shared, seed):
    def forward(self, x):
        size, length, _ = x.shape
        turned = torch.tanh(self.late(x.transpose(0, 1).flatten(0, 1))).view(length, size, -1)
        gate = torch.relu(x[:, 0, :1] - 1.5)
        return self.head(torch.tanh(self.a(x)).mean(1) + gate * turned.mean(0))

    torch.manual_seed(seed)
    a = nn.Linear(5, 6)
    layers = {"a": a, "late": a if is_shared else nn.Linear(5, 6), "head": nn.Linear(6, 3)}
    for length in (2, 4):
        batches = [normal(size, length, 5) for size in [32] * 4 + [5]]
        check(module(forward, **layers).double(), batches)


def in_groups(self, x):
    """Four at a time, and time first in each group."""
    size, length, _ = x.shape
    group = min(size, 4)
    h = x.view(size // group, group, length, -1).transpose(1, 2).reshape(size * length, -1)
    h = torch.tanh(self.a(h)).view(size // group, length, group, -1)
    return self.b(h.mean(1).flatten(0, 1))


def beside_the_next(self, x):
    """Each is compared with another one by the same encoder; how far on depends on the size."""
    further = len(x) // 4
    others = self.a(torch.cat([x[further:], x[:further]]).mean(1).cos())
    back = torch.cat([others[len(x) - further :], others[: len(x) - further]])
    return self.b(torch.tanh(self.a(x.mean(1))) * back)


@pytest.mark.parametrize("verify", ["growing", "every batch"])
@pytest.mark.parametrize("forward", [in_groups, beside_the_next])
def test_a_batch_may_lie_otherwise_than_three_samples(forward, verify):
    torch.manual_seed(0)
    model = module(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 3)).double()
    ours = check(model, [normal(size, 3, 5) for size in (2, 4, 8, 16, 8)], verify=verify)
    assert set(ours.fallbacks) == {"a.weight", "a.bias"}


def in_order_of_lengths(self, x, lengths):
    order = torch.tensor(sorted(range(len(x)), key=lambda k: -int(lengths[k])))
    h = torch.tanh(self.a(x))[order].sum(1) + torch.sin(self.a(x[order].sum(1)))
    return self.b(h)[order.argsort()]


@pytest.mark.parametrize("kind", [list, np.array])
def test_plain_lengths_may_decide_about_the_order(kind):
    torch.manual_seed(0)
    model = module(in_order_of_lengths, a=nn.Linear(5, 6), b=nn.Linear(6, 3)).double()
    batches = [(normal(8, 4, 5), kind([4] * 8))]
    batches += [(normal(8, 4, 5), kind(torch.randint(1, 5, (8,)).tolist())) for _ in range(3)]
    ours = estimate_importance(model, batches, forward=with_parts)
    singles = [(x[k : k + 1], kind([lengths[k]])) for x, lengths in batches for k in range(len(x))]
    assert worst_error(ours, reference(model, singles)) < 1e-10


def test_a_model_may_insist_on_sorted_samples():
    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True)
        _, (h, _) = self.rnn(packed)
        return self.b(h[-1])

    torch.manual_seed(0)
    model = module(forward, rnn=nn.LSTM(5, 4, batch_first=True), b=nn.Linear(4, 3)).double()
    batches = [
        (normal(size, 6, 5), torch.randint(1, 7, (size,)).sort(descending=True).values)
        for size in (8, 8, 3)
    ]
    check(model, batches)


def with_documents(self, x, encode):
    """Queries and their documents in one call; what documents give is gated."""
    query, documents, gate = x[:, 0, :5], x[:, 1:, :5], x[:, 0, 5:]
    size, many, _ = documents.shape
    h = encode(torch.cat([query, documents.flatten(0, 1)]))
    found = (h[:size].unsqueeze(1) * h[size:].view(size, many, -1)).mean(1)
    return self.head(h[:size] + gate * found)


def encoded(self, x):
    return with_documents(self, x, lambda rows: torch.tanh(self.encoder(rows)))


def compared_to_prototypes(self, x):
    """By an operation without a rule."""
    return with_documents(self, x, lambda rows: torch.cdist(rows, self.encoder.weight))


def gated(size, open_samples):
    x = normal(size, 4, 6)
    x[:, 0, 5] = 0
    x[open_samples, 0, 5] = 1
    return x


@pytest.mark.filterwarnings("ignore:.*read again")
@pytest.mark.parametrize("options", [{}, {"verify": "every batch"}, {"output": "vector"}])
@pytest.mark.parametrize("forward", [encoded, compared_to_prototypes])
def test_one_call_may_have_parts_that_no_gradient_reaches_yet(forward, options):
    torch.manual_seed(0)
    model = module(forward, encoder=nn.Linear(5, 6), head=nn.Linear(6, 3)).double()
    for opened in (slice(None), [0], [3, 18]):
        batches = [gated(19, []), gated(19, opened), gated(19, slice(None)), gated(16, [2])]
        ours = estimate_importance(model, batches, **options)
        plain = estimate_importance(
            model, batches, engine="loop", output=options.get("output", "norm")
        )
        assert worst_error(ours, dict(plain)) < 1e-10


@pytest.mark.filterwarnings("ignore:.*read again")
@pytest.mark.parametrize("size", [4, 8, 32])
def test_a_sample_that_lies_right_by_chance_proves_nothing(size):
    """Time first or not, the first word of the first text is the first of all."""
    model = text_model()
    first = texts(size, 0)
    first[1][0, 0] = 7
    check(model, [texts(size, 0), first, texts(size, 1), texts(size, 1)])


@pytest.mark.filterwarnings("ignore:.*read again")
def test_what_is_found_late_is_measured_again():
    """Also where a smaller last batch is the first to show it."""
    torch.manual_seed(0)
    model = module(encoded, encoder=nn.Linear(5, 6), head=nn.Linear(6, 3)).double()
    check(model, [gated(8, []), gated(8, slice(None)), gated(5, slice(None))])


def test_round_off_of_the_others_is_no_gradient():
    def forward(self, x):
        h = torch.tanh(self.a(x))
        sums = torch.cat([h.new_zeros(1, 6), h.flatten(0, 1).cumsum(0)])
        ends = torch.arange(0, len(sums), h.shape[1])
        return self.b((sums[ends[1:]] - sums[ends[:-1]]) / h.shape[1])

    torch.manual_seed(0)
    model = module(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 3)).double()
    assert not check(model, [normal(size, 4, 5) for size in (32, 32, 5)]).fallbacks
