"""What is not as long as a batch goes whole to every sample, unless outputs say otherwise."""

import numpy
import pytest
import torch
from judge import worst_error
from networks import module
from torch import nn
from torch.nn import functional

from avalanche_mas import estimate_importance, estimate_local_importance
from avalanche_mas.importance.watch import watch_importance

EXACT = 1e-10
SIZE = 8


def forward(model, batch):
    return model(*batch)


def entities():
    """The mean of each text's words that are named."""

    def run(self, x, spans):
        h = torch.tanh(self.encoder(x))
        return self.head(
            torch.stack([h[k][torch.as_tensor(s)].mean(0) for k, s in enumerate(spans)])
        )

    return module(run, encoder=nn.Linear(5, 6), head=nn.Linear(6, 3)).double()


def passages():
    """A query and several passages for each, which lie one behind the other."""

    def run(self, queries, documents):
        own = torch.tanh(self.document(documents)).view(len(queries), -1, 6)
        return self.query(queries) * own.mean(1)

    return module(run, query=nn.Linear(5, 6), document=nn.Linear(5, 6)).double()


def ragged():
    """All words one behind the other, and how many each text has."""

    def run(self, lengths, words):
        sums = functional.pad(torch.tanh(self.encoder(words)).cumsum(0), (0, 0, 1, 0))
        ends = lengths.cumsum(0)
        return self.head((sums[ends] - sums[ends - lengths]) / lengths[:, None])

    return module(run, encoder=nn.Linear(5, 6), head=nn.Linear(6, 2)).double()


def spans(make):
    drawn = [torch.randperm(6)[: 1 + k % 3] for k in range(SIZE)]
    return torch.randn(SIZE, 6, 5).double(), [make(some) for some in drawn]


def words():
    lengths = 1 + torch.randperm(SIZE)
    return lengths, torch.randn(int(lengths.sum()), 5).double()


CASES = {
    "a list of lists": (entities, lambda: spans(torch.Tensor.tolist)),
    "a list of tensors": (entities, lambda: spans(lambda some: some)),
    "a list of arrays": (entities, lambda: spans(torch.Tensor.numpy)),
    "a list of numbers as tensors": (
        entities,
        lambda: (torch.randn(SIZE, 6, 5).double(), [torch.tensor([k % 6]) for k in range(SIZE)]),
    ),
    "a dict of lists": (
        entities,
        lambda: (torch.randn(SIZE, 6, 5).double(), dict(enumerate([[k % 6] for k in range(SIZE)]))),
    ),
    "passages": (
        passages,
        lambda: (torch.randn(SIZE, 5).double(), torch.randn(3 * SIZE, 5).double()),
    ),
    "ragged": (ragged, words),
}


def seen(model, batches, **options):
    with watch_importance(model.eval(), fraction=1.0, **options) as watched:
        for batch in batches:
            model(*batch)
    return watched.importance


ESTIMATES = {
    "global": lambda model, batches: estimate_importance(model, batches, forward=forward),
    "loop": lambda model, batches: estimate_importance(
        model, batches, forward=forward, engine="loop"
    ),
    "local": lambda model, batches: estimate_local_importance(model, batches, forward=forward),
    "watch": seen,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES)
def test_what_each_sample_has_of_its_own_must_not(case, estimate):
    make, data = CASES[case]
    model = make()
    if case == "a dict of lists":
        model = module(lambda self, x, s: self.net(x, list(s.values())), net=model)
    with pytest.raises(ValueError, match=r"batch of 8 samples holds .* an entry for each"):
        estimate(model, [data() for _ in range(2)])


@pytest.mark.parametrize("case", ["a list of lists", "passages"])
def test_split_says_whose_it_is(case):
    make, data = CASES[case]
    model, batches = make(), [data() for _ in range(3)]

    def split(batch):
        first, other = batch
        n = len(other) // len(first)
        return [(first[k : k + 1], other[k * n : (k + 1) * n]) for k in range(len(first))]

    ours = estimate_importance(model, batches, forward=forward, split=split)
    samples = [sample for batch in batches for sample in split(batch)]
    expected = estimate_importance(model, samples, forward=forward, engine="loop")
    assert worst_error(ours, expected) < EXACT


def test_a_later_batch_may_be_the_first_to_show_it():
    """The words that are named are the same for all samples of the first batches."""
    model, batches = entities(), [spans(torch.Tensor.tolist) for _ in range(4)]
    alike = [(x, [[1, 2]] * SIZE) for x, _ in batches[:3]]
    with pytest.raises(ValueError, match="an entry for each"):
        estimate_importance(model, [*alike, *batches[3:]], forward=forward)


@pytest.mark.parametrize("kind", [numpy.int64, numpy.float32, int])
def test_a_list_of_plain_numbers_is_cut(kind):
    def run(self, x, lengths):
        inside = torch.arange(5)[None] < torch.tensor([int(n) for n in lengths])[:, None]
        return self.head((torch.tanh(self.encoder(x)) * inside[..., None]).sum(1))

    model = module(run, encoder=nn.Linear(5, 6), head=nn.Linear(6, 2)).double()
    batches = [
        (torch.randn(SIZE, 5, 5).double(), [kind(1 + (k + b) % 5) for k in range(SIZE)])
        for b in range(3)
    ]
    samples = [(x[k : k + 1], n[k : k + 1]) for x, n in batches for k in range(SIZE)]
    expected = estimate_importance(model, samples, forward=forward, engine="loop")
    assert worst_error(estimate_importance(model, batches, forward=forward), expected) < EXACT


def test_what_all_share_still_goes_whole():
    """A table of positions, thresholds in a list, a name."""

    def run(self, x, places, limits, name):
        h = torch.tanh(self.encoder(x) + places)
        return self.head(h.mean(1)).clamp(*limits[0]) * len(name)

    model = module(run, encoder=nn.Linear(5, 6), head=nn.Linear(6, 2)).double()
    places, limits = torch.randn(4, 6).double(), [[-0.5, 0.5]]
    batches = [(torch.randn(SIZE, 4, 5).double(), places, limits, "cut") for _ in range(3)]
    samples = [(x[k : k + 1], *others) for x, *others in batches for k in range(SIZE)]
    expected = estimate_importance(model, samples, forward=forward, engine="loop")
    ours = estimate_importance(model, batches, forward=forward)
    assert not ours.fallbacks
    assert worst_error(ours, expected) < EXACT


def divided(self, x, scale):
    return self.head(torch.tanh(self.encoder(x))) / scale


def moved(self, x, context):
    return self.head(torch.tanh(self.encoder(x) + context).mean(1))


WATCHED = {
    "a temperature": (divided, (5,), lambda: torch.rand(1) + 0.5),
    "a context": (moved, (4, 5), lambda: torch.randn(1, 6)),
    "positions of one word": (moved, (1, 5), lambda: torch.randn(1, 6)),
    "a context of each word": (moved, (4, 5), lambda: torch.randn(1, 4, 6)),
}


@pytest.mark.parametrize("case", WATCHED)
@pytest.mark.parametrize("calls", [4, 5])
def test_calls_of_one_sample_are_not_joined_if_it_is_not_clear_whose_what_is(case, calls):
    run, shape, other = WATCHED[case]
    model = module(run, encoder=nn.Linear(5, 6), head=nn.Linear(6, 4)).double()
    samples = [(torch.randn(1, *shape).double(), other().double()) for _ in range(calls)]
    expected = estimate_importance(model, samples, forward=forward, engine="loop")
    ours = seen(model, samples)
    assert ours.samples == calls
    assert worst_error(ours, expected) < EXACT
