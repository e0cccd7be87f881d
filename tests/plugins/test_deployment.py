"""Ω of what a network is used for: observe, watch, when it joins, and where it is anchored."""

import copy
import warnings

import pytest
import torch
from deployed import EXACT, arriving, go_on, trained
from tiny_avalanche import (
    ESTIMATE,
    PLUGINS,
    MultiHead,
    assert_close,
    mlp,
    move,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn

from avalanche_mas import MASPlugin

every_plugin = pytest.mark.parametrize("Plugin", PLUGINS)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@every_plugin
def test_pieces_are_one_mean(Plugin):
    plugin = Plugin()
    strategy, _ = trained(plugin)
    x, pieces = arriving()
    before = plugin.importance
    for piece in pieces:
        alone = plugin.observe(strategy.model, piece)
        assert_close(alone, ESTIMATE[Plugin](strategy.model, piece), **EXACT)
    assert_close(plugin.observed, ESTIMATE[Plugin](strategy.model, x), **EXACT)
    assert plugin.observed.samples == len(x)
    assert plugin.importance is before


@every_plugin
@pytest.mark.parametrize("accumulate", ["sum", "mean", 0.25])
def test_they_join_as_one_further_measurement(Plugin, accumulate):
    """With the next experience; θ* is where they were measured."""
    plugin = Plugin(10.0, accumulate=accumulate)
    strategy, benchmark = trained(plugin)
    for piece in arriving()[1]:
        plugin.observe(strategy.model, piece)
    first, seen, solution = plugin.importance, plugin.observed, weights(strategy.model)
    joined = []

    def record(strategy, **kwargs):
        joined.append((plugin.importance, dict(plugin.penalty.anchor), plugin.observed))

    strategy.plugins[-1].before_training_epoch = record
    old, new = {"sum": (1, 1), "mean": (0.5, 0.5), 0.25: (0.25, 0.75)}[accumulate]
    go_on(strategy, benchmark)
    importance, anchor, observed = joined[0]
    assert_close(importance, {name: old * first[name] + new * seen[name] for name in seen})
    assert same_bits(anchor, solution)
    assert observed is None
    assert plugin.tasks == 3


def test_a_network_is_kept_where_it_was_used():
    """With an enormous λ, answers to what it was used for stay; without it they do not."""
    moved = {}
    for used in (True, False):
        plugin = MASPlugin(1e8, streams=None)
        strategy, benchmark = trained(plugin, model=mlp())
        x, pieces = arriving()
        for piece in pieces if used else ():
            plugin.observe(strategy.model, piece)
        before = strategy.model(x).detach()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            go_on(strategy, benchmark)
        moved[used] = float((strategy.model(x).detach() - before).norm() / before.norm())
    assert moved[True] < 0.01 < 0.1 < moved[False]


def test_without_streams_an_unobserved_experience_is_told():
    plugin = MASPlugin(streams=None)
    strategy, benchmark = trained(plugin)  # in silence
    assert plugin.importance is None
    with pytest.warns(UserWarning, match="nothing has been observed since the last experience"):
        go_on(strategy, benchmark)
    plugin.observe(strategy.model, arriving()[0])
    go_on(strategy, benchmark, 2)
    assert plugin.tasks == 1
    anchor = plugin.penalty.anchor
    with pytest.warns(UserWarning, match="nothing has been observed"):
        go_on(strategy, benchmark, 0)
    assert plugin.penalty.anchor is anchor
    assert plugin.tasks == 1


def test_a_network_can_be_observed_before_it_is_trained():
    """Such as a pretrained one: its present parameters become θ*."""
    plugin, model = MASPlugin(1e8), mlp()
    x, _ = arriving()
    plugin.observe(model, x)
    before = model(x).detach()
    train(naive(model, plugin), split(dtype=torch.float64).train_stream[:1])
    assert float((model(x).detach() - before).norm() / before.norm()) < 0.01


@every_plugin
@pytest.mark.parametrize("ended", [False, True])
def test_watched_samples_join_also_after_an_exception(Plugin, ended):
    plugin = Plugin()
    strategy, _ = trained(plugin)
    model, (x, pieces) = strategy.model.eval(), arriving()
    plugin.observe(model, pieces[1])
    try:
        with plugin.watch(model, fraction=0.5) as watched, torch.inference_mode():
            for part in x.split([7, 13, 40]):
                model(part)
            if ended:
                raise KeyError
    except KeyError:
        pass
    assert (watched.seen, watched.samples) == (60, 30)
    together = ESTIMATE[Plugin](model, torch.cat([pieces[1], x[::2]]))
    assert_close(plugin.observed, together, **EXACT)
    assert not any(tensor.is_inference() for tensor in plugin.observed.values())


@every_plugin
def test_heads_are_told_by_task_labels(Plugin):
    """Of a whole batch, of each sample, and of a watched model; unlike heads as well."""
    benchmark = split(task_labels=True, dtype=torch.float64)
    x, _ = arriving()
    tasks = torch.arange(60) % 2
    plugin = Plugin()
    strategy, _ = trained(plugin, 2, MultiHead(), benchmark)
    model = strategy.model.eval()
    with pytest.raises(ValueError, match="pass task_label"):
        plugin.observe(model, x)
    truth = ESTIMATE[Plugin](
        model,
        [(x[tasks == t], t) for t in (0, 1)],
        forward=lambda model, batch: model(batch[0], batch[1]),
    )
    observing = [
        lambda: plugin.observe(model, x, tasks),
        lambda: [plugin.observe(model, x[tasks == t], t) for t in (0, 1)],
    ]
    watching = [
        lambda: [model(x, tasks)],
        lambda: [model(x[tasks == t], task_labels=tasks[tasks == t]) for t in (1, 0)],
        lambda: [model(x[k : k + 1], k % 2) for k in range(60)],
    ]
    for way in observing + watching:
        plugin.forget_observed()
        if way in observing:
            way()
        else:
            with plugin.watch(model, fraction=1.0), torch.inference_mode():
                way()
        assert_close(plugin.observed, truth, **EXACT)


@pytest.mark.parametrize("kind", ["units in another order", "a frozen weight", "a statistic"])
def test_whatever_the_model_computes_with_is_watched(kind):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    model[2].weight.requires_grad_(False)
    plugin, x = MASPlugin(), torch.randn(5, 3)
    plugin.observe(model, x)
    with torch.no_grad():
        if kind == "units in another order":
            model[0].weight.copy_(model[0].weight.flip(0).clone())
        elif kind == "a frozen weight":
            model[2].weight.mul_(2)
        else:
            model[1].running_mean.add_(1)
    with pytest.raises(ValueError, match="is not what it was when 5 samples"):
        plugin.observe(model, x)


@every_plugin
def test_a_model_that_moved_is_refused(Plugin):
    plugin = Plugin()
    strategy, benchmark = trained(plugin)
    model, x = strategy.model.eval(), arriving()[0]
    plugin.observe(model, x)
    seen = plugin.observed
    there = copy.deepcopy(model.state_dict())
    move(model, 1e-12)
    with pytest.raises(ValueError, match=r"'0\.weight' is not what it was when 60 samples"):
        plugin.observe(model, x)
    with pytest.raises(ValueError, match="not what it was"), plugin.watch(model):
        pass
    with pytest.raises(ValueError, match="not what it was"):
        go_on(strategy, benchmark)
    assert plugin.observed is seen
    assert plugin.tasks == 1
    model.load_state_dict(there)
    model.eval()
    watching = plugin.watch(model, 1.0)
    watching.__enter__()
    model(x)
    move(model)
    with pytest.raises(ValueError, match="not what it was"):
        watching.__exit__(None, None, None)
    assert plugin.observed is seen
    plugin.forget_observed()
    plugin.observe(model, x)


def test_what_is_trained_cannot_be_observed():
    plugin = MASPlugin()
    strategy, benchmark = trained(plugin)

    def use(strategy, **kwargs):
        plugin.observe(strategy.model, arriving()[0])

    strategy.plugins[-1].before_training_epoch = use
    with pytest.raises(RuntimeError, match="an experience is being trained"):
        go_on(strategy, benchmark)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.full((2, 8), torch.nan).double(), ValueError, "not finite"),
        (torch.zeros(0, 8).double(), ValueError, "no samples"),
        ("text", TypeError, "a batch must be"),
        (torch.zeros(2, 3).double(), RuntimeError, "shapes"),
    ],
)
def test_bad_samples_change_nothing(x, error, message):
    plugin = MASPlugin()
    strategy, _ = trained(plugin)
    plugin.observe(strategy.model, arriving()[0])
    seen, values = plugin.observed, {name: t.clone() for name, t in plugin.observed.items()}
    with pytest.raises(error, match=message):
        plugin.observe(strategy.model, x)
    assert plugin.observed is seen
    assert same_bits(dict(seen), values)
