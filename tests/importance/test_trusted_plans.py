"""A plan counts for what it has seen: another layout, order or precision is not trusted."""

import copy

import pytest
import torch
from judge import naive_importance, worst_error
from networks import at_a_kink, free, module
from torch import nn
from torch.nn import functional

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
