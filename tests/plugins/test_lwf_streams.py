"""LwFPlugin on streams and models as people have them, and what it refuses in words."""

import copy
import functools

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.models import MTSimpleMLP, MultiTaskModule, SimpleMLP, as_multitask
from avalanche.training.plugins import EWCPlugin, ReplayPlugin
from distilled import Growing, Noisy, state
from tiny_avalanche import (
    FEATURES,
    MultiHead,
    Watch,
    clusters,
    mlp,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn
from torch.utils.data import TensorDataset

from avalanche_mas import MASPlugin
from avalanche_mas.plugins import LwFPlugin
from avalanche_mas.plugins.base.features import FeatureTap

both = pytest.mark.parametrize("targets", ["recorded", "recomputed"])


def unlabelled(*targets):
    """Experiences that name neither tasks nor classes; samples are (x, y)."""
    x, _ = clusters(per_class=5)
    data = [AvalancheDataset([TensorDataset(x, y)]) for y in targets]
    return benchmark_from_datasets(train=data).train_stream


@both
def test_without_task_labels_and_named_classes_all_units_are_old(targets):
    y = torch.arange(30) % 6
    runs = []
    model = mlp()
    for plugins in ([], [LwFPlugin(targets=targets)]):
        runs.append(weights(train(naive(copy.deepcopy(model), *plugins), unlabelled(y, y)).model))
    assert plugins[0].units == {None: [0, 1, 2, 3, 4, 5]}
    assert not same_bits(*runs)


def test_targets_that_are_no_classes_are_refused():
    strategy = naive(mlp(), LwFPlugin(), criterion=nn.MSELoss())
    before = weights(strategy.model)
    with pytest.raises(TypeError, match="names no classes, and its targets are"):
        train(strategy, unlabelled(torch.randn(30, 6)))
    assert same_bits(weights(strategy.model), before)


@both
def test_the_old_part_of_a_growing_head(targets):
    plugin = LwFPlugin(targets=targets)
    shapes = Watch("after_forward", lambda strategy: strategy.mb_output.shape[1])
    old = Watch("after_forward", lambda strategy: plugin._old.get(None))
    train(naive(Growing(), plugin, shapes, old, epochs=1), split().train_stream)
    assert sorted(set(shapes.seen)) == [2, 4, 6]
    assert old.seen[0] is None
    assert old.seen[-1] == [0, 1, 2, 3]


@both
def test_a_wrapped_model(targets):
    model, runs = mlp(), []
    for wrap in (lambda m: m, nn.DataParallel, functools.partial(torch.compile, backend="eager")):
        strategy = naive(copy.deepcopy(model), LwFPlugin(targets=targets))
        stream = split().train_stream
        train(strategy, stream[:1])
        own = strategy.model
        strategy.model = wrap(own)
        train(strategy, stream[1:])
        runs.append(state(own))
    assert same_bits(runs[0], runs[1])
    for name, tensor in runs[0].items():
        torch.testing.assert_close(runs[2][name], tensor)


MODELS = {
    "MTSimpleMLP": lambda: MTSimpleMLP(FEATURES, 16),
    "as_multitask": lambda: as_multitask(
        SimpleMLP(num_classes=2, input_size=FEATURES, hidden_size=16), "classifier"
    ),
}


@both
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_avalanches_own_models(targets, make):
    plugin = LwFPlugin(targets=targets)
    train(naive(make(), plugin), split(task_labels=True).train_stream)
    assert plugin.units == {0: [0, 1], 1: [0, 1], 2: [0, 1]}


def replay_and(plugin, first):
    replay = ReplayPlugin(mem_size=20)
    return [replay, plugin] if first else [plugin, replay]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("make", [MultiHead, Noisy])
def test_replayed_samples_are_refused_if_recorded_and_else_distilled(first, make):
    """Mixed mini-batches, whether the model splits them by task or not."""
    stream = split(task_labels=True).train_stream
    with pytest.raises(ValueError, match=r"another plugin \(replay\?\).*targets='recomputed'"):
        train(naive(make(), *replay_and(LwFPlugin(), first)), stream)
    plugin = LwFPlugin(targets="recomputed")

    def by_hand(strategy):
        model = copy.deepcopy(strategy.model).eval()
        expected = plugin.compared(None, model.features(strategy.mb_x), model)
        before = plugin._ask(model, strategy.mb_x)
        assert same_bits(before, expected)
        tap = FeatureTap(model.heads)
        model(strategy.mb_x, strategy.mb_task_id)
        torch.testing.assert_close(
            tap.features(strategy.mb_task_id), model.features(strategy.mb_x), rtol=1e-5, atol=1e-6
        )
        return len(strategy.mb_task_id.unique())

    mixed = Watch("before_update", lambda strategy: by_hand(strategy) if plugin.active else 0)
    train(naive(make(), *replay_and(plugin, first), mixed, epochs=1), stream)
    assert max(mixed.seen) > 1


def test_an_online_stream():
    """Its parts have one teacher, the model before their task; they cannot be recorded."""
    benchmark = split()
    parts = list(split_online_stream(benchmark.train_stream, 5, access_task_boundaries=True))
    plugin = LwFPlugin(targets="recomputed")
    old = Watch("before_forward", lambda s: (plugin._old.get(None), id(plugin._teacher)))
    model, names = mlp(), []
    strategy = naive(model, plugin, old, epochs=1)
    for part in parts:
        torch.manual_seed(0)
        strategy.train(part)
        names.append(old.seen[-1])
    assert names[:4] == [(None, id(None))] * 4
    assert [units for units, _ in names[4:8]] == [[0, 1]] * 4
    assert len({teacher for _, teacher in names[4:8]}) == 1
    assert names[8][0] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="part of an online stream"):
        naive(mlp(), LwFPlugin()).train(parts[0])


class Shaken(nn.Module):
    """A transform that never gives the same sample twice."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def test_random_transforms_are_refused_if_recorded():
    """At once, not after the first experience; and where nothing is recorded, they are fine."""
    stream = split(train_transform=Shaken()).train_stream
    strategy = naive(mlp(), LwFPlugin())
    before = weights(strategy.model)
    with pytest.raises(ValueError, match=r"transforms are random.*targets='recomputed'"):
        train(strategy, stream)
    assert same_bits(weights(strategy.model), before)
    for plugin in (LwFPlugin(targets="recomputed"), LwFPlugin(alpha=0.0)):
        train(naive(mlp(), plugin), stream)


def test_beside_other_methods():
    """Two plugins at once, ours and Avalanche's, whose own loaders are not disturbed."""
    for other in (MASPlugin, EWCPlugin):
        model = MultiHead()
        train(naive(model, LwFPlugin(), other(0.1)), split(task_labels=True).train_stream)
        assert all(p.isfinite().all() for p in model.parameters())


class OwnHeads(MultiTaskModule):
    """Heads that are no MultiHeadClassifier."""

    def __init__(self):
        super().__init__()
        self.body, self.heads = nn.Linear(FEATURES, 16), Heads()

    def forward(self, x, task_labels):
        return self.heads(self.body(x).relu(), task_labels)


class Heads(nn.Module):
    """Three heads of two units; mini-batches belong to one task."""

    def __init__(self):
        super().__init__()
        self.all = nn.ModuleList(nn.Linear(16, 2) for _ in range(3))

    def forward(self, x, task):
        return self.all[int(task) if isinstance(task, int) else int(task[0])](x)


@both
def test_a_classifier_of_the_users_own(targets):
    stream = split(task_labels=True).train_stream
    with pytest.raises(ValueError, match=r"Pass classifier='...'. Candidates: body, heads"):
        train(naive(OwnHeads(), LwFPlugin(targets=targets)), stream)
    with pytest.raises(ValueError, match=r"no module 'head'.*body, heads"):
        train(naive(OwnHeads(), LwFPlugin(targets=targets, classifier="head")), stream)
    plugin = LwFPlugin(targets=targets, classifier="heads")
    train(naive(OwnHeads(), plugin), stream)
    assert plugin.units == {0: [0, 1], 1: [0, 1], 2: [0, 1]}


def test_outputs_that_are_no_class_scores():
    class Two(nn.Module):
        def __init__(self, output):
            super().__init__()
            self.layer, self.output = mlp(), output

        def forward(self, x):
            return self.output(self.layer(x))

    cases = {
        (TypeError, "returned a tuple"): (lambda y: (y, y), lambda o: o[0]),
        (TypeError, r"returned \(1, 6, 1\)"): (lambda y: y[..., None], lambda o: o[..., 0]),
    }
    for (error, message), (output, scores) in cases.items():

        def criterion(o, y, scores=scores):
            return nn.functional.cross_entropy(scores(o), y)

        with pytest.raises(error, match=message):
            train(
                naive(Two(output), LwFPlugin(targets="recomputed"), criterion=criterion),
                split().train_stream,
            )


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"temperature": 0.0},
        {"temperature": float("inf")},
        {"targets": "both"},
        {"batch_size": 0},
    ],
)
def test_bad_options_fail_at_once_and_are_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        LwFPlugin(**options)
