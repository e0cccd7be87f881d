"""``state_dict`` and ``load_state_dict`` of every plugin: plain values, and bit-exact."""

import copy

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from interrupted import Net
from states import (
    PLUGINS,
    STREAM,
    bits,
    learn,
    learnt,
    plugin_of,
    state_of,
    strategy_of,
    with_heads,
)
from torch import nn

from avalanche_mas import IMMPlugin, Importance, MASPlugin, SIPlugin
from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.evaluation import method_memory
from avalanche_mas.plugins.registry import METHODS

every_method = pytest.mark.parametrize("name", PLUGINS)


@every_method
def test_a_new_plugin_goes_on_bit_by_bit(name, tmp_path):
    """Through a file without pickled classes, with and without telling the model."""
    torch.save({"plugin": state_of(learnt(name))}, tmp_path / "state.pt")
    ends = []
    for tell in (None, True, False):
        if tell is None:
            strategy = copy.deepcopy(learnt(name))
        else:
            model = with_heads(STREAM[:2])
            model.load_state_dict(learnt(name).model.state_dict())
            plugin = plugin_of(name)
            state = torch.load(tmp_path / "state.pt", weights_only=True)["plugin"]
            plugin.load_state_dict(state, model if tell else None)
            assert bits(plugin.state_dict()) == bits(state_of(learnt(name)))
            strategy = strategy_of(model, plugin)
        learn(strategy, STREAM[2:])
        evaluated = model_of(name, strategy)
        ends.append(bits([strategy.model.state_dict(), evaluated, state_of(strategy)]))
    assert ends[0] == ends[1] == ends[2]


def model_of(name, strategy):
    return METHODS[name].final_model(strategy).state_dict() if name in METHODS else {}


@every_method
def test_the_state_matters(name):
    """Without it the same training ends elsewhere: or the test above would show nothing."""
    ends = []
    for load in (False, True):
        model = with_heads(STREAM[:2])
        model.load_state_dict(learnt(name).model.state_dict())
        plugin = plugin_of(name)
        if load:
            plugin.load_state_dict(state_of(learnt(name)), model)
        strategy = strategy_of(model, plugin)
        learn(strategy, STREAM[2:])
        ends.append(bits(strategy.model.state_dict()))
    assert ends[0] != ends[1]


@every_method
def test_a_loaded_plugin_shares_nothing_and_takes_no_more_memory(name):
    model = with_heads(STREAM[:2])
    plugin = plugin_of(name)
    state = state_of(learnt(name))
    before = bits(state)
    plugin.load_state_dict(state, model)
    strategy = strategy_of(model, plugin)
    assert method_memory(strategy) == method_memory(learnt(name))
    learn(strategy, STREAM[2:])
    assert bits(state) == before == bits(state_of(learnt(name)))


@every_method
def test_before_anything_is_learnt(name):
    plugin, other = plugin_of(name), plugin_of(name)
    other.load_state_dict(plugin.state_dict(), Net())
    assert bits(other.state_dict()) == bits(plugin.state_dict())


@every_method
def test_what_a_plugin_has_learnt_itself_is_forgotten(name):
    strategy = copy.deepcopy(learnt(name))
    empty = plugin_of(name).state_dict()
    strategy.plugins[0].load_state_dict(empty, strategy.model)
    assert bits(state_of(strategy)) == bits(empty)


@every_method
def test_in_the_middle_of_a_task_there_is_no_state(name):
    """Which an error in training leaves as well."""

    def fail(*args):
        raise KeyboardInterrupt

    strategy = strategy_of(Net(), plugin_of(name))
    strategy._criterion = fail
    with pytest.raises(KeyboardInterrupt):
        strategy.train(STREAM[0])
    with pytest.raises(RuntimeError, match=r"middle of a task.*save_checkpoint"):
        state_of(strategy)


def test_an_importance_given_at_the_start_is_part_of_the_state():
    model = Net()
    omega = Importance({n: torch.ones_like(p) for n, p in model.named_parameters()}, 7)
    new, state = MASPlugin(), MASPlugin(initial=omega).state_dict()
    new.load_state_dict(state, model)
    assert new.initial is not None
    assert new.initial.samples == 7


def test_options_are_those_of_the_plugin_that_loads():
    plugin = SIPlugin(lambda_reg=3.0)
    plugin.load_state_dict(state_of(learnt("SI")), learnt("SI").model)
    assert plugin.penalty.lambda_reg == 3.0


def test_merging_loaded_solutions_takes_a_model():
    plugin = IMMPlugin()
    plugin.load_state_dict(state_of(learnt("modeIMM")))
    with pytest.raises(RuntimeError, match="pass it to load_state_dict"):
        plugin.merged("mode")
    plugin.load_state_dict(state_of(learnt("modeIMM")), learnt("modeIMM").model)
    merged = learnt("modeIMM").plugins[0].merged("mode").state_dict()
    assert bits(plugin.merged("mode").state_dict()) == bits(merged)


class OneHead(nn.Sequential):
    """The parts of an online stream's experience do not tell Avalanche's heads their classes."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize("name", ["MAS", "SI", "LwF", "EBLL", "modeIMM"])
def test_the_parts_of_an_online_experience_are_one_task(name):
    """In between there is more than a state: a path, an old model, what the task has trained."""
    options = {"targets": "recomputed"} if name in ("LwF", "EBLL") else {}
    (plugin,) = METHODS[name].plugins(1.0, classifier="3", **options)
    strategy = strategy_of(OneHead(), plugin)
    stream = permuted_digits(2).train_stream
    parts = list(split_online_stream(stream, 700, access_task_boundaries=True))
    for part in parts:
        strategy.train(part)
        if part.is_last_subexp:
            assert state_of(strategy)
        else:
            with pytest.raises(RuntimeError, match=r"middle of a task.*save_checkpoint"):
                state_of(strategy)
    assert [part.is_last_subexp for part in parts] == [False, True] * 2
