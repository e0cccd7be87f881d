"""Samples and outputs as libraries of text and images have them, by every plugin that measures."""

from collections import OrderedDict, UserDict

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training import Naive
from tiny_avalanche import assert_close, naive, train
from torch import nn
from torch.utils.data import Dataset, default_collate

from avalanche_mas import EWCPlugin, LocalMASPlugin, MASPlugin, estimate_importance
from avalanche_mas.plugins import estimate_fisher

WORDS = torch.randint(1, 9, (12, 5), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(5) < 3).expand(12, 5).long()
LABELS = torch.arange(12) % 2


class Output(OrderedDict):
    """As transformers return it."""


class Text(nn.Module):
    """Counts the words that are not masked; returns much besides the scores."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, words, mask, labels=None, start_positions=None):
        assert labels is None
        assert start_positions is None
        scores = self.head((self.words(words) * mask[..., None]).mean(1).tanh())
        return Output(loss=scores.sum(), logits=scores, cache=object(), chosen=scores.argmax(1))


PLAIN = [(WORDS, MASK)]


def scores(model, batch):
    return model(*batch)["logits"]


class Samples(Dataset):
    """Dictionaries, made into one kind of sample."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return self.form({"words": WORDS[i], "mask": MASK[i]}, LABELS[i])


FORMS = {
    "(dict, y)": lambda x, y: (x, y),
    "labels inside": lambda x, y: {**x, "labels": y},
    "labels inside, and y": lambda x, y: ({**x, "labels": y}, y),
    "places of an answer": lambda x, y: {**x, "start_positions": y},
}
KINDS = [MASPlugin, LocalMASPlugin, EWCPlugin]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_dictionaries_go_through_the_model_without_their_labels(kind, form):
    model, plugin = Text(), kind()
    expected = kind().prime(model, PLAIN, forward=scores)
    assert_close(plugin.prime(model, Samples(FORMS[form])), expected)
    assert_close(kind().observe(model, default_collate([*Samples(FORMS[form])])), expected)
    if form != "places of an answer":
        own, labels = EWCPlugin(fisher="empirical"), [((WORDS, MASK), LABELS)]
        empirical = estimate_fisher(
            model, labels, fisher="empirical", forward=lambda m, b: scores(m, b[0])
        )
        assert_close(own.prime(model, Samples(FORMS[form])), empirical)


def test_what_a_tokenizer_returns():
    batch = UserDict(words=WORDS, mask=MASK)  # which transformers' BatchEncoding is
    expected = estimate_importance(Text(), PLAIN, forward=scores)
    for data in ([batch], [(batch, LABELS)]):
        assert_close(estimate_importance(Text(), data), expected)


def test_samples_that_were_not_put_together_are_no_batch():
    sample = {"words": WORDS[0], "mask": MASK[0]}
    with pytest.raises(TypeError, match=r"list of dict.*Pass forward="):
        estimate_importance(Text(), [[sample, sample]])


class Reads(Naive):
    """A strategy for dictionaries with labels, as one writes it for transformers."""

    def _unpack_minibatch(self):
        self.mbatch = {name: part.to(self.device) for name, part in self.mbatch.items()}

    @property
    def mb_y(self):
        return self.mbatch["labels"]

    @property
    def mb_x(self):
        return self.mbatch["words"]

    def forward(self):
        return self.model(self.mb_x, self.mbatch["mask"])["logits"]


@pytest.mark.parametrize("options", [{}, {"fisher": "empirical"}])
def test_a_strategy_for_dictionaries(options):
    data = AvalancheDataset([Samples(FORMS["labels inside"])], collate_fn=default_collate)
    plugin = EWCPlugin(**options) if options else MASPlugin()
    strategy = naive(Text(), plugin)
    strategy.__class__ = Reads
    train(strategy, benchmark_from_datasets(train=[data]).train_stream)
    expected = EWCPlugin(**options) if options else MASPlugin()
    assert_close(plugin.importance, expected.prime(strategy.model, data))


class Named(nn.Module):
    """The mean of the words that are named, in lists of unlike lengths."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, words, named):
        rows = zip(self.words(words), named, strict=False)
        return self.head(torch.stack([row[places].mean(0) for row, places in rows]))


def listed(samples):
    words = torch.stack([x["words"] for x, _ in samples])
    places = [[2 + k % 3, *range(k % 3)] for k in range(len(samples))]
    return {"words": words, "named": places, "labels": torch.stack([y for _, y in samples])}


@pytest.mark.parametrize("kind", KINDS)
def test_lists_with_an_entry_for_each_sample_fail_before_training(kind):
    data = AvalancheDataset([Samples(FORMS["(dict, y)"])], collate_fn=listed)
    plugin = kind(forward=lambda model, batch: model(batch["words"], batch["named"]))
    strategy = naive(Named(), plugin)
    strategy.__class__ = Reads
    before = [p.clone() for p in strategy.model.parameters()]
    with pytest.raises(TypeError, match="which of them belong to one sample each"):
        train(strategy, benchmark_from_datasets(train=[data]).train_stream)
    assert all(map(torch.equal, strategy.model.parameters(), before))


# --- EWC ------------------------------------------------------------------------------------------


def dense():
    torch.manual_seed(1)
    return nn.Conv2d(2, 3, 1), torch.randn(6, 2, 2, 3), torch.randint(0, 3, (6, 2, 3))


def pixel_by_pixel(model, x, expected=True, y=None):
    """Σ over pixels of F of each, by autograd alone."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for k in range(len(x)):
        log_p = model(x[k : k + 1]).log_softmax(1)[0].flatten(1)
        if not expected:
            kept = [log_p[c, place] for place, c in enumerate(y[k].flatten().tolist()) if c >= 0]
            terms = [(1.0, sum(kept))]
        else:
            terms = [(p.exp().detach(), p) for p in log_p.flatten()]
        for weight, term in terms:
            grads = torch.autograd.grad(term, model.parameters(), retain_graph=True)
            for sums, grad in zip(total.values(), grads, strict=True):
                sums += weight * grad.square() / len(x)
    return total


def test_dense_outputs_are_a_class_for_each_pixel():
    model, x, y = dense()
    expected = pixel_by_pixel(model, x)
    assert_close(estimate_fisher(model, x), expected)
    wrapped = lambda m, b: {"out": m(b), "aux": m(b)}  # noqa: E731
    assert_close(estimate_fisher(model, x, forward=wrapped), expected)
    y[0, 0] = -100  # of no class, as cross_entropy has it
    labelled = estimate_fisher(model, [(x, y)], fisher="empirical")
    assert_close(labelled, pixel_by_pixel(model, x, expected=False, y=y))


def test_draws_of_pixels_are_independent_and_right_on_average():
    """Neighbours that were drawn alike would count up to six times."""
    model, x, _ = dense()
    many = x[:2].repeat(2000, 1, 1, 1)
    drawn = estimate_fisher(model, many, fisher="sampled", batch_size=500)
    assert_close(drawn, estimate_fisher(model, x[:2]), rtol=0.1, atol=0.02)
    few = [estimate_fisher(model, x, fisher="sampled", batch_size=size) for size in (1, 4)]
    assert_close(*few)


def test_a_span_has_a_beginning_and_an_end():
    torch.manual_seed(0)
    model, x = nn.Linear(3, 4), torch.randn(5, 3)
    ends = lambda m, b: {"start_logits": m(b), "end_logits": 3 * m(b)}  # noqa: E731
    a = estimate_fisher(model, x)
    b = estimate_fisher(model, x, forward=lambda m, b: 3 * m(b))
    assert_close(estimate_fisher(model, x, forward=ends), {n: a[n] + b[n] for n in a})
