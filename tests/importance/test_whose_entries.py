"""Which entries belong to which sample is asked of the gradient, never guessed from shapes."""

from contextlib import suppress

import numpy
import pytest
import torch
from judge import naive_importance, worst_error
from networks import module
from torch import nn
from torch.nn import functional

from avalanche_mas import check_model, estimate_importance, estimate_local_importance
from avalanche_mas.importance.watch import watch_importance

ENGINES = ["auto", "vmap", "loop"]


def right(model, x, **options):
    error = worst_error(estimate_importance(model, x, **options), naive_importance(model, x))
    assert error < 1e-10, error


def time_major():
    """(B, T, F) → (T·B, F), as before recurrent layers were batch-first."""

    def forward(self, x):
        h = torch.tanh(self.layer(x.transpose(0, 1).flatten(0, 1)))
        return self.head(torch.tanh(self.inner(h)).view(x.shape[1], len(x), 6).mean(0))

    parts = {"layer": nn.Linear(5, 6), "inner": nn.Linear(6, 6), "head": nn.Linear(6, 3)}
    return module(forward, **parts).double()


@pytest.mark.parametrize("blank", [0, 1, 3, 8])
@pytest.mark.parametrize("output", ["norm", "vector", "squares"])
def test_positions_outside_and_samples_inside_go_by_rule(blank, output):
    model, x = time_major(), torch.randn(9, 4, 5).double()
    x[:blank] = 0
    ours = estimate_importance(model, x, output=output)
    assert not ours.fallbacks
    assert worst_error(ours, naive_importance(model, x, output=output)) < 1e-10


def test_they_do_after_a_blank_first_batch_too():
    model, x = time_major(), torch.randn(9, 4, 5).double()
    x[:4] = 0
    ours = estimate_importance(model, list(x.split([4, 5])))
    assert worst_error(ours, naive_importance(model, x)) < 1e-10


def test_two_views_of_each_sample():
    """Contrastive training: both views of a batch go through the network one behind the other."""

    def forward(self, x):
        first, second = self.net(torch.cat([x, x.flip(1)])).chunk(2)
        return first * second

    model = module(forward, net=nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    x = torch.randn(7, 4).double()
    model.double()
    assert not estimate_importance(model, x).fallbacks
    right(model, x)


def ragged():
    """Unpadded: only the tokens that are there are embedded."""

    def forward(self, tokens):
        there = tokens != 0
        h = torch.tanh(self.layer(self.embed(tokens[there])))
        sums = h.new_zeros(len(tokens), 5).index_add(0, there.nonzero()[:, 0], h)
        return self.head(sums)

    parts = {"embed": nn.Embedding(11, 6), "layer": nn.Linear(6, 5), "head": nn.Linear(5, 3)}
    return module(forward, **parts).double()


@pytest.mark.parametrize("lengths", [[3, 3, 3, 3, 2, 4], [2, 2, 2, 1, 3, 2], [5, 1, 5, 1, 3, 3]])
@pytest.mark.parametrize("size", [6, 3])
def test_samples_of_unlike_length_whose_total_fits(lengths, size):
    tokens = torch.zeros(6, 5, dtype=torch.long)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = torch.randint(1, 11, (length,))
    model = ragged()
    right(model, tokens, batch_size=size)
    assert set(estimate_importance(model, tokens).fallbacks) == set(dict(model.named_parameters()))


def test_mixed_samples_are_found_and_said():
    """The output of a sample depends on the others: importance is that of a sample alone."""

    def forward(self, x):
        h = torch.tanh(self.layer(x))
        return self.head(h - 0.5 * h.mean(0))

    model = module(forward, layer=nn.Linear(4, 5), head=nn.Linear(5, 2)).double()
    x = torch.randn(6, 4).double()
    right(model, x)
    fallbacks = estimate_importance(model, x).fallbacks
    assert "mixed" in fallbacks["layer.weight"]
    assert "head.weight" not in fallbacks or "mixed" not in fallbacks["head.weight"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_constant_that_grows_with_the_batch(engine):
    def forward(self, x):
        positions = torch.arange(x.shape[1]).expand(len(x), -1)
        h = self.layer(x) + self.places(positions) + self.task(self.number.expand(len(x)))[:, None]
        return torch.tanh(h).mean(1)

    parts = {"layer": nn.Linear(3, 4), "places": nn.Embedding(8, 4), "task": nn.Embedding(2, 4)}
    model = module(forward, **parts).double()
    model.register_buffer("number", torch.tensor([1]))
    x = torch.randn(6, 5, 3).double()
    right(model, x, engine=engine)
    assert not estimate_importance(model, x).fallbacks
    assert set(check_model(model, x).measured) <= {"rule", "vmap"}


@pytest.mark.parametrize("size", [4, 5, 6, 7])
def test_a_tensor_that_all_samples_share_may_be_as_long_as_the_batch(size):
    def forward(self, x, adjacency):
        return self.head(torch.relu(torch.einsum("nm,bmf->bnf", adjacency, self.layer(x))))

    model = module(forward, layer=nn.Linear(8, 4), head=nn.Linear(4, 2)).double()
    adjacency, x = torch.rand(6, 6).double(), torch.randn(12, 6, 8).double()
    batches = [{"x": part, "adjacency": adjacency} for part in x.split(size)]
    truth = naive_importance(model, x, lambda m, one: m(one, adjacency))
    assert worst_error(estimate_importance(model, batches), truth) < 1e-10


def test_what_belongs_to_each_sample_stays_with_it():
    def forward(self, x, scale):
        return torch.tanh(self.layer(x)) * scale

    model, x = module(forward, layer=nn.Linear(3, 4)).double(), torch.randn(5, 3).double()
    data = {"x": x, "scale": torch.rand(5, 1).double()}
    ours = estimate_importance(model, [data])
    assert worst_error(ours, naive_importance(model, data)) < 1e-10


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shared", [True, False])
def test_a_tensor_that_decides_where_all_samples_go(shared, seed):
    """A sample alone goes another way, with the whole tensor and with its own entry: no output
    tells whether it is shared, but the gradient does."""

    def forward(self, x, table):
        rows = torch.einsum("nm,bmf->bnf", table, x) if shared else table[:, None] * x
        h = self.layer(rows).mean(1)
        return self.head(torch.tanh(h * 3) if h.sum() > 0 else h)

    torch.manual_seed(seed)
    model = module(forward, layer=nn.Linear(6, 4), head=nn.Linear(4, 2)).double()
    table, x = torch.rand(6, 6).double(), torch.randn(12, 6, 6).double()
    tables = [table, table] if shared else [table, torch.rand(6, 6).double()]
    batches = [{"x": a, "table": b} for a, b in zip(x.split(6), tables, strict=True)]
    if shared:
        truth = naive_importance(model, x, lambda m, one: m(one, table))
    else:
        truth = naive_importance(model, {"x": x, "table": torch.cat(tables)})
    assert worst_error(estimate_importance(model, batches), truth) < 1e-10


def graph(self, x, table):
    return torch.einsum("nm,bmf->bnf", table.to(x), x)


NO_GRADIENT = {
    "mask": lambda x, table: graph(None, x, table > 0.5),
    "places": lambda x, table: x[:, (table[:, 0] * 6).long()],
    "list": lambda x, table: x[:, (table[:, 0] * 6).long().tolist()] * torch.arange(6)[:, None],
    "edges": lambda x, table: graph(None, x, torch.zeros(6, 6).index_put(
        tuple((table > 0.5).nonzero().t()), torch.ones(()))),
    "one gradient for all": lambda x, table: torch.einsum("m,bmf->bf", table.sum(1), x)[:, None],
    "threshold": lambda x, table: x * (x > table.mean() - 0.5),
}  # fmt: skip


@pytest.mark.parametrize("branches_on", ["all", "x"])
@pytest.mark.parametrize("rows", NO_GRADIENT.values(), ids=NO_GRADIENT)
def test_a_shared_tensor_that_decides_and_has_no_gradient_of_its_own(rows, branches_on):
    """Samples that change places tell that it does not go with them."""

    def forward(self, x, keep, table):
        h = (self.layer(rows(x, table)) * keep[:, None, None]).mean(1)
        positive = (h if branches_on == "all" else x).sum() > 0
        return self.head(torch.tanh(h * 3) if positive else h)

    for seed in range(3):
        torch.manual_seed(seed)
        model = module(forward, layer=nn.Linear(6, 4), head=nn.Linear(4, 2)).double()
        x, keep, table = torch.randn(10, 6, 6).double(), torch.rand(10), torch.rand(6, 6).double()
        parts = zip(x.split([6, 4]), keep.split([6, 4]), strict=True)
        batches = [{"x": a, "keep": b, "table": table} for a, b in parts]
        data = {"x": x, "keep": keep}
        if rows is NO_GRADIENT["threshold"]:
            # one entry more or less in its mean may change no output: then an error asks
            with suppress(ValueError):
                estimate_importance(model, batches[:1])
            batches = batches[1:] + batches[:1]  # the second has another size
        truth = naive_importance(model, data, lambda m, one, table=table: m(**one, table=table))
        assert worst_error(estimate_importance(model, batches), truth) < 1e-10


def test_several_of_many_tensors_are_shared():
    def forward(self, x, keep, scale, table, places, features):
        h = self.layer(graph(self, x, table) + self.embed(places) + features)
        h = (h * keep[..., None]).mean(1) * scale[:, None]
        return self.head(torch.tanh(h * 3) if h.max().item() > 0.5 else h)

    parts = {"layer": nn.Linear(4, 4), "embed": nn.Embedding(6, 4), "head": nn.Linear(4, 2)}
    model, both = module(forward, **parts).double(), {"places": torch.randperm(6)}
    both |= {"table": torch.rand(6, 6).double(), "features": torch.randn(6, 4).double()}
    own = {"x": torch.randn(6, 6, 4).double(), "keep": torch.rand(6, 6) > 0.4}
    own["scale"] = torch.rand(6).double()
    truth = naive_importance(model, own, lambda m, one: m(**one, **both))
    assert worst_error(estimate_importance(model, [own | both]), truth) < 1e-10


@pytest.mark.parametrize("masked", [0, 1])
@pytest.mark.parametrize("sizes", [[4, 4], [4, 6], [6, 4], [6, 6]], ids=str)
def test_parts_that_not_every_batch_has(sizes, masked):
    def forward(self, x, mask=None, table=None):
        h = self.layer(graph(self, x, table))
        return self.head(torch.tanh((h if mask is None else h * mask[..., None]).sum(1)))

    model = module(forward, layer=nn.Linear(5, 4), head=nn.Linear(4, 2)).double()
    table, batches, single = torch.rand(6, 6).double(), [], []
    for number, size in enumerate(sizes):
        own = {"x": torch.randn(size, 6, 5).double()}
        if number == masked:
            own["mask"] = torch.rand(size, 6) > 0.5
        batches.append({**own, "table": table})
        single += [{**{k: v[i : i + 1] for k, v in own.items()}, "table": table}
                   for i in range(size)]  # fmt: skip
    truth = estimate_importance(model, single, engine="loop")
    assert worst_error(estimate_importance(model, batches), truth) < 1e-10


def attending(self, x, flag, table):
    h = torch.tanh(self.layer(x))
    weights = torch.softmax(h @ self.keys(table).T, -1)
    return self.head(torch.where(flag[:, None], h + weights @ self.values(table), h))


def listed(self, x, edges):
    h = torch.tanh(self.layer(x))
    summed = torch.zeros_like(h)
    for i, j in edges.tolist():
        summed[:, i] = summed[:, i] + h[:, j]
    return self.head(summed.mean(1))


def number(self, x, table):
    return self.head(torch.tanh(self.layer(x)).clamp(max=float(table.max()) / 4))


def nearest(self, x, table):
    return self.head(torch.tanh(self.layer(x + table[torch.cdist(x, table).argmin(1)])))


FEATURES = {"x": torch.randn(6, 5), "flag": torch.tensor([0, 1, 1, 0, 1, 0]).bool()}
CYCLE = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0]])
SHARED = {
    "not used by the first and the last": (attending, FEATURES, {"table": torch.randn(6, 3)}),
    "a list of as many edges": (listed, {"x": torch.randn(6, 6, 5)}, {"edges": CYCLE}),
    "a number of it": (number, {"x": torch.randn(6, 5)}, {"table": torch.rand(6)}),
    "the first's and the last's own": (
        nearest, {"x": torch.eye(6)[:, :5] + 0.1}, {"table": torch.eye(6)[[0, 2, 1, 4, 3, 5], :5]}
    ),
    "outputs of 1e-9": (
        lambda self, x, table: 1e-9 * nearest(self, x, table),
        {"x": torch.randn(6, 5)}, {"table": torch.randn(6, 5)},
    ),
}  # fmt: skip


def doubles(batch):
    return {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}


def attention(forward=attending):
    parts = {"layer": nn.Linear(5, 4), "values": nn.Linear(3, 4), "head": nn.Linear(4, 2)}
    return module(forward, keys=nn.Linear(3, 4, bias=False), **parts).double()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", SHARED)
def test_what_some_samples_do_not_show(case, engine):
    forward, own, shared = SHARED[case]
    model, own, shared = attention(forward), doubles(own), doubles(shared)
    truth = naive_importance(model, own, lambda m, one: m(**one, **shared))
    assert worst_error(estimate_importance(model, [own | shared], engine=engine), truth) < 1e-10


@pytest.mark.parametrize("flags", [[0, 1], [1, 0], [0, 0, 0, 1]], ids=str)
def test_what_a_batch_does_not_show_is_asked_of_the_next(flags):
    """The first batch makes no use of the table, so it is its own as well as everybody's."""
    model, shared = attention(), {"table": torch.randn(6, 3).double()}
    flag = torch.tensor(flags).bool().repeat_interleave(6)
    own = {"x": torch.randn(len(flag), 5).double(), "flag": flag}
    truth = naive_importance(model, own, lambda m, one: m(**one, **shared))
    parts = zip(own["x"].split(6), own["flag"].split(6), strict=True)
    batches = [{"x": a, "flag": b, **shared} for a, b in parts]
    assert worst_error(estimate_importance(model, batches), truth) < 1e-10


def test_a_mask_of_ones_is_still_each_samples_own():
    """Beside a table that is shared it fits a lone sample as a whole, too."""

    def forward(self, x, mask, table):
        h = torch.tanh(self.layer(graph(self, x, table)))
        return self.head(
            torch.stack([rows[keep].mean(0) for rows, keep in zip(h, mask, strict=False)])
        )

    model = module(forward, layer=nn.Linear(5, 4), head=nn.Linear(4, 2)).double()
    shared, mask = {"table": torch.rand(6, 6).double()}, torch.rand(12, 6) > 0.5
    mask[:6] = mask[:, 0] = True
    own = {"x": torch.randn(12, 6, 5).double(), "mask": mask}
    truth = naive_importance(model, own, lambda m, one: m(**one, **shared))
    parts = zip(own["x"].split(6), mask.split(6), strict=True)
    batches = [{"x": a, "mask": b, **shared} for a, b in parts]
    assert worst_error(estimate_importance(model, batches), truth) < 1e-10


def test_what_a_later_batch_shows_to_be_shared_is_an_error():
    """The third batch is the first to use the table, but is not asked; the fourth tells."""

    def forward(self, x, table):
        h = torch.tanh(self.layer(x))
        if x.max() > 10:
            h = h + torch.softmax(h @ self.keys(table).T, -1) @ self.values(table)
        return self.head(h)

    model, table = attention(forward), torch.randn(6, 3).double()
    sizes, large = (6, 6, 6, 4), (0, 0, 20, 20)
    batches = [
        {"x": torch.rand(size, 5).double() + more, "table": table}
        for size, more in zip(sizes, large, strict=True)
    ]
    with pytest.raises(ValueError, match=r"6 entries came with 4 samples.*Leave what"):
        estimate_importance(model, batches)
    assert estimate_importance(model, batches[1:]).samples == 16


@pytest.mark.parametrize("max_samples", [4, 6, 9])
@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
def test_batches_are_cut_after_it_is_known_what_is_whose(estimate, max_samples):
    def forward(self, x, adjacency):
        return self.head(torch.relu(torch.einsum("nm,bmf->bnf", adjacency, self.layer(x))))

    model = module(forward, layer=nn.Linear(8, 4), head=nn.Linear(4, 2)).double()
    adjacency, x = torch.rand(6, 6).double(), torch.randn(12, 6, 8).double()
    batches = [{"x": part, "adjacency": adjacency} for part in x.split(6)]
    some = estimate(model, batches, max_samples=max_samples)
    singles = [{"x": one, "adjacency": adjacency} for one in x[:max_samples].split(1)]
    assert worst_error(some, estimate(model, singles)) < 1e-10


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("sizes", [[6], [6, 6], [6, 4], [4, 6], [1, 6]], ids=str)
@pytest.mark.parametrize("same", [True, False])
def test_a_watched_call_with_what_its_samples_share(sizes, fraction, same):
    model = module(listed, layer=nn.Linear(5, 4), head=nn.Linear(4, 2)).double().eval()
    others = [CYCLE if same or not number else CYCLE.flip(1) for number in range(len(sizes))]
    calls = [torch.randn(size, 6, 5).double() for size in sizes]
    with watch_importance(model, fraction=fraction) as watched:
        for x, edges in zip(calls, others, strict=True):
            model(x, edges=edges)
    samples = [(one, edges) for x, edges in zip(calls, others, strict=True) for one in x.split(1)]
    chosen = [samples[int(j / fraction)] for j in range(watched.samples)]
    truth = estimate_importance(model, chosen, forward=lambda m, b: m(*b), engine="loop")
    assert worst_error(watched.importance, truth) < 1e-10


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, numpy.array])
def test_plain_values_for_each_sample(kind, engine):
    """Lengths as a list, as many functions that collate give them."""

    def forward(self, x, lengths):
        h = torch.tanh(self.layer(x))
        return self.head(
            torch.stack([rows[:n].sum(0) for rows, n in zip(h, lengths, strict=False)])
        )

    model = module(forward, layer=nn.Linear(4, 3), head=nn.Linear(3, 2)).double()
    x, lengths = torch.randn(6, 5, 4).double(), [1, 5, 2, 4, 3, 5]
    data = {"x": x, "lengths": kind(lengths)}
    truth = naive_importance(model, {"x": x, "lengths": torch.tensor(lengths)})
    if engine == "vmap" and kind is not torch.tensor:
        with pytest.raises(RuntimeError, match="no tensor"):
            estimate_importance(model, [data], engine=engine)
    elif engine != "vmap":
        assert worst_error(estimate_importance(model, [data], engine=engine), truth) < 1e-10
        with watch_importance(model.eval(), fraction=1.0) as watched:
            model(**data)
        assert worst_error(watched.importance, truth) < 1e-10


def test_a_list_that_all_samples_share():
    def forward(self, x, sizes):
        return self.head(torch.tanh(self.layer(x)).unflatten(1, sizes).sum(1))

    model = module(forward, layer=nn.Linear(4, 6), head=nn.Linear(3, 2)).double()
    x = torch.randn(4, 4).double()
    truth = naive_importance(model, x, lambda m, one: m(one, (2, 3)))
    batches = [{"x": part, "sizes": (2, 3)} for part in x.split(2)]
    assert worst_error(estimate_importance(model, batches), truth) < 1e-10


def test_the_first_tensor_must_not_be_what_all_share():
    def forward(self, adjacency, x):
        return self.head(torch.relu(graph(self, self.layer(x), adjacency)).sum(1))

    model = module(forward, layer=nn.Linear(8, 4), head=nn.Linear(4, 2)).double()
    data = {"adjacency": torch.rand(6, 6).double(), "x": torch.randn(6, 6, 8).double()}
    with pytest.raises(ValueError, match="share the batch's first tensor"):
        estimate_importance(model, [data])


def test_where_it_cannot_be_told_an_error_asks():
    """Whether or not the table is cut, the output has the right shape, and it mixes samples."""

    def forward(self, x, table):
        return self.layer(x - x.mean(0)) + table.mean()

    data = {"x": torch.randn(5, 3), "table": torch.randn(5, 2)}
    with pytest.raises(ValueError, match="which to all"):
        estimate_importance(module(forward, layer=nn.Linear(3, 4)), [data])


def test_an_operation_that_torch_does_not_show():
    """A torch.autograd.Function, whose parameter the first samples do not even exercise."""

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(context, x, weight):
            context.save_for_backward(x, weight)
            return x @ weight.t()

        @staticmethod
        def backward(context, delta):
            x, weight = context.saved_tensors
            return delta @ weight, delta.t() @ x

    def forward(self, x):
        return self.head(torch.tanh(Product.apply(torch.relu(self.first(x)), self.weight)))

    parts = {"first": nn.Linear(5, 5, bias=False), "head": nn.Linear(4, 3)}
    model = module(forward, weight=nn.Parameter(torch.randn(4, 5)), **parts).double()
    x = torch.randn(16, 5).double()
    x[:8] = 0
    right(model, x)
    right(model, x, batch_size=8)
    assert set(estimate_importance(model, x).fallbacks) == {"weight"}


def test_a_blank_first_batch_proves_nothing():
    """Only the second batch shows that gradients depend on the size of the batch."""

    class Uneven(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, delta):
            return delta * len(delta)

    def forward(self, x):
        return self.head(Uneven.apply(torch.relu(self.layer(x))))

    parts = {"layer": nn.Linear(5, 6, bias=False), "head": nn.Linear(6, 3, bias=False)}
    model, x = module(forward, **parts).double(), torch.randn(12, 5).double()
    x[:6] = 0
    right(model, x, batch_size=6)


@pytest.mark.parametrize("sizes", [[9], [8, 1], [1, 8], [4, 4, 1]], ids=str)
def test_local_importance_of_positions_outside(sizes):
    model, x = time_major(), torch.randn(9, 4, 5).double()
    x[:3] = 0
    ours = estimate_local_importance(model, list(x.split(sizes)))
    assert worst_error(ours, estimate_local_importance(model, x, batch_size=1)) < 1e-10


def test_low_precision_does_not_hide_a_fault():
    """In bfloat16 round-off is as large as many faults: plans are checked in float32."""
    model, x = time_major().bfloat16(), torch.randn(32, 5, 5).bfloat16()
    x[:3] = 0
    ours = estimate_importance(model, x)
    assert not ours.fallbacks
    wide = {name: t.double() for name, t in ours.items()}
    truth = naive_importance(model.double(), x.double())
    assert worst_error(wide, truth) < 0.05


def test_one_sample_whose_gradient_lies_with_the_channels_last():
    """torch's own gradient of BatchNorm is wrong there; the reference must not be."""

    def forward(self, x):
        h = self.bn(self.conv(x)).flatten(2).transpose(1, 2)
        return self.head(functional.layer_norm(h, (5,)))

    parts = {"conv": nn.Conv2d(3, 5, 3), "bn": nn.BatchNorm2d(5), "head": nn.Linear(5, 3)}
    model, x = module(forward, **parts).double(), torch.randn(5, 3, 6, 6).double()
    nn.init.normal_(model.bn.running_mean)
    truth = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    model.eval()
    for one in x:  # twice in a batch, and halved: torch errs for one sample only
        value = model(torch.stack([one, one])).square().sum() / 2
        gradients = torch.autograd.grad(value, list(model.parameters()))
        for t, g in zip(truth.values(), gradients, strict=True):
            t += g.abs() / len(x)
    for engine in ENGINES:
        for size in 5, 4, 1:
            ours = estimate_importance(model, x, engine=engine, batch_size=size)
            assert worst_error(ours, truth) < 1e-10, (engine, size)
            assert not ours.fallbacks


MADE_FROM_PARAMETERS = {
    "directly and through another": lambda self, x: (
        (self.m / 2 - 1) * self.a(x) + self.m / 2 * self.b(x) * 0.5
    ),
    "one derived twice": lambda self, x: ((c := self.m / 2) - 1) * self.a(x) + c * self.b(x) * 0.5,
    "written into a constant": lambda self, x: (
        functional.linear(
            x, torch.zeros(8, 6).to(x).index_put((torch.arange(8), torch.arange(8) % 6), self.m)
        )
        + self.a(x)
    ),
    "set into a constant": lambda self, x: functional.linear(x, placed(self.m)) + self.a(x),
    "added to a constant": lambda self, x: (
        functional.linear(x, torch.eye(8, 6).to(x).add_(self.m[:, None])) + self.a(x)
    ),
    "turned": lambda self, x: self.m.cos() * self.a(x) + self.m.sin() * self.b(x),
    "normalised": lambda self, x: functional.normalize(self.m, dim=0) * self.a(x),
}


def placed(values):
    constant = torch.zeros(8, 6).to(values)
    constant[torch.arange(8), torch.arange(8) % 6] = values
    return constant


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("forward", MADE_FROM_PARAMETERS.values(), ids=MADE_FROM_PARAMETERS)
def test_weights_that_are_made_from_parameters(forward, blank):
    """As adapters of pretrained networks make them."""
    parts = {"a": nn.Linear(6, 8, bias=False), "b": nn.Linear(6, 8, bias=False)}
    model = module(
        lambda self, x: torch.tanh(forward(self, x)), m=nn.Parameter(torch.randn(8)), **parts
    ).double()
    x = torch.randn(8, 6).double()
    x[:blank] = 0
    right(model, x)


@pytest.mark.parametrize("effect", [1e-4, 1.0])
def test_a_mask_that_hardly_matters_belongs_to_the_samples(effect):
    """With all of it, a sample alone gets the first one's, and almost its own output."""

    def forward(self, x, mask):
        return self.head(self.a(x).mean(1) + effect * (self.b(x) * mask[: len(x), :, None]).mean(1))

    layers = {"a": nn.Linear(3, 4), "b": nn.Linear(3, 4), "head": nn.Linear(4, 2)}
    model, x = module(forward, **layers).double(), torch.randn(10, 6, 3).double()
    mask = (torch.arange(6) < torch.tensor([6, 2, 3, 5, 4]).repeat(2)[:, None]).double()
    batches = [{"x": a, "mask": b} for a, b in zip(x.split(5), mask.split(5), strict=True)]
    truth = naive_importance(model, {"x": x, "mask": mask})
    assert worst_error(estimate_importance(model, batches), truth) < 1e-10
