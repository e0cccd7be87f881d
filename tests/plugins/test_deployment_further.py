"""Observed samples and Fisher information, checkpoints, and heads that grow."""

import copy

import pytest
import torch
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.models import IncrementalClassifier
from deployed import EXACT, arriving, go_on, trained
from tiny_avalanche import (
    FEATURES,
    PLUGINS,
    MultiHead,
    assert_close,
    mlp,
    naive,
    same_bits,
    split,
    weights,
)
from torch import nn

from avalanche_mas import EWCPlugin, MASPlugin, estimate_fisher

every_plugin = pytest.mark.parametrize("Plugin", PLUGINS)


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_fisher_information_where_it_reads_no_labels():
    x, pieces = arriving()
    plugin = EWCPlugin(mode="online")
    strategy, benchmark = trained(plugin)
    model = strategy.model.eval()
    for piece in pieces:
        plugin.observe(model, piece)
    assert_close(plugin.observed, estimate_fisher(model, x), **EXACT)
    plugin.forget_observed()
    with plugin.watch(model, fraction=0.5), torch.inference_mode():
        for part in x.split(17):
            model(part)
    assert_close(plugin.observed, estimate_fisher(model, x[::2]), **EXACT)
    first, seen = plugin.importance, plugin.observed
    go_on(strategy, benchmark)
    assert plugin.tasks == 3
    assert (plugin.importance["0.weight"] - first["0.weight"] - seen["0.weight"]).min() >= 0
    for wrong in (EWCPlugin(fisher="empirical"), EWCPlugin(fisher="empirical", streams=None)):
        with pytest.raises(ValueError, match="reads labels"):
            wrong.observe(model, x)
        with pytest.raises(ValueError, match="reads labels"), wrong.watch(model):
            pass


def test_sampled_fisher_information_draws_anew_for_each_piece():
    plugin = EWCPlugin(fisher="sampled")
    strategy, _ = trained(plugin)
    x = arriving()[0]
    first, second = (plugin.observe(strategy.model, x) for _ in range(2))
    assert not same_bits(dict(first), dict(second))


@every_plugin
def test_a_checkpoint_in_the_middle_goes_on_to_the_same_bits(Plugin, tmp_path):
    """Also by state_dict."""
    x, pieces = arriving()
    ends = []
    for way in ("through", "checkpoint", "state"):
        plugin = Plugin(10.0)
        strategy, benchmark = trained(plugin)
        plugin.observe(strategy.model, pieces[1])
        if way == "checkpoint":
            save_checkpoint(strategy, tmp_path / "run")
            strategy, _ = maybe_load_checkpoint(naive(mlp(), Plugin(10.0)), tmp_path / "run")
            plugin = next(p for p in strategy.plugins if isinstance(p, Plugin))
        if way == "state":
            state = copy.deepcopy(plugin.state_dict())
            torch.save(state, tmp_path / "state")
            plugin.forget_observed()
            loaded = torch.load(tmp_path / "state", weights_only=True)
            plugin.load_state_dict(loaded, strategy.model)
        plugin.observe(strategy.model, pieces[4])
        with plugin.watch(strategy.model.eval()):
            strategy.model(x)
        go_on(strategy, benchmark)
        ends.append(weights(strategy.model))
    assert same_bits(ends[0], ends[1])
    assert same_bits(ends[0], ends[2])


def test_heads_may_grow_in_between():
    """Evaluation on classes to come adds units: the old ones are where they were."""
    head = IncrementalClassifier(8, initial_out_features=2).double()
    plugin = MASPlugin(10.0)
    strategy, benchmark = trained(plugin, model=nn.Sequential(mlp(8), nn.ReLU(), head))
    plugin.observe(strategy.model, arriving()[0])
    strategy.eval(benchmark.test_stream)
    assert strategy.model[2].classifier.weight.shape == (6, 8)
    go_on(strategy, benchmark)
    assert plugin.tasks == 3
    assert plugin.importance["2.classifier.weight"].shape == (6, 8)


def heads_for_two_tasks():
    plugin, benchmark = MASPlugin(), split(task_labels=True, dtype=torch.float64)
    strategy, _ = trained(plugin, model=MultiHead(), benchmark=benchmark)
    return plugin, strategy, benchmark.train_stream[1]


def watched(plugin, model, action):
    with plugin.watch(model.eval(), fraction=1.0):
        model(torch.randn(6, FEATURES), torch.zeros(6, dtype=torch.long))
        action()


def test_training_inside_watch_is_refused_and_what_was_watched_is_kept():
    """Before a head is made for the next task, or anything else about the model changes."""
    plugin, strategy, later = heads_for_two_tasks()
    before = weights(strategy.model)
    with pytest.raises(RuntimeError, match=r"MASPlugin watches.*leave the context of watch"):
        watched(plugin, strategy.model, lambda: strategy.train(later))
    assert same_bits(before, weights(strategy.model))
    assert plugin.observed.samples == 6
    strategy.train(later)
    assert plugin.tasks == 3


def test_a_copy_made_inside_watch_can_be_trained():
    plugin, strategy, later = heads_for_two_tasks()
    copies = []
    watched(plugin, strategy.model, lambda: copies.append(copy.deepcopy(strategy)))
    copies[0].train(later)
    assert copies[0].plugins[0].tasks == 2  # without what is being watched


def test_what_was_watched_is_kept_where_the_model_has_grown():
    plugin, strategy, later = heads_for_two_tasks()

    def grow_and_fail():
        strategy.model.heads.adaptation(later)
        raise OSError("the real error")

    with pytest.raises(OSError, match="the real error"):
        watched(plugin, strategy.model, grow_and_fail)
    assert plugin.observed.samples == 6
