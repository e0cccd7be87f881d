"""A state that does not fit is refused with a clear error before it changes anything."""

import copy

import pytest
from avalanche.models import MultiHeadClassifier
from interrupted import Net
from states import PLUGINS, STREAM, bits, learnt, plugin_of, state_of, strategy_of, with_heads
from torch import nn

from avalanche_mas import EWCPlugin, IMMPlugin

every_method = pytest.mark.parametrize("name", PLUGINS)


def refused(plugin, state, model, match):
    """A clear error, and nothing has been changed."""
    before = bits(plugin.state_dict())
    with pytest.raises(ValueError, match=match):
        plugin.load_state_dict(state, model)
    assert bits(plugin.state_dict()) == before


@every_method
def test_keys_must_fit(name):
    plugin, state = learnt(name).plugins[0], state_of(learnt(name))
    for key in state:
        less = {k: v for k, v in state.items() if k != key}
        refused(plugin, less, None, rf"lacks \['{key}'\], and has nothing")
    refused(plugin, {**state, "more": 1}, None, r"lacks nothing, and has \['more'\]")
    for broken in (None, [], 3, {}):
        refused(plugin, broken, None, ".")


@every_method
def test_broken_values_are_refused(name):
    """Whatever stands in place of whatever: each leaf and each branch, one after the other."""
    plugin, state = learnt(name).plugins[0], state_of(learnt(name))
    tried = 0
    for path in branches(state):
        for value in (object(), "text"):
            broken = copy.deepcopy(state)
            where = broken
            for key in path[:-1]:
                where = where[key]
            where[path[-1]] = value
            refused(plugin, broken, None, ".")
            tried += 1
    assert tried >= 4


def branches(value, path=()):
    if isinstance(value, dict):
        for key in value:
            if not isinstance(value[key], bool):  # anything is true or false
                yield (*path, key)
                yield from branches(value[key], (*path, key))
    elif isinstance(value, list) and value and not isinstance(value[0], int):
        for i, item in enumerate(value):
            yield (*path, i)
            yield from branches(item, (*path, i))


@every_method
def test_the_state_of_another_method_is_refused(name):
    for other in PLUGINS:
        if learnt(other).plugins[0]._kind() != learnt(name).plugins[0]._kind():
            refused(plugin_of(name), state_of(learnt(other)), None, "is the state of")


def test_ewc_of_another_mode_and_imm_without_information_are_refused():
    refused(EWCPlugin(mode="online"), state_of(learnt("EWC")), None, r"of EWCPlugin\(mode='sep")
    refused(IMMPlugin(), state_of(learnt("meanIMM")), None, "2 solutions .* of 0 .*'expected'")


class Wide(Net):
    def __init__(self):
        super().__init__()
        self.features[1] = nn.Linear(64, 15)
        self.features[2] = nn.BatchNorm1d(15)
        self.classifier = MultiHeadClassifier(15)


@every_method
def test_the_state_of_another_network_is_refused(name):
    state = state_of(learnt(name))
    wide = with_heads(STREAM[:2], Wide())
    refused(plugin_of(name), state, wide, r"parameter 'features.1.weight' went from shape \(16, 64")
    refused(plugin_of(name), state, nn.Linear(2, 2), "parameter 'features.1.weight' that the model")
    headless = with_heads(STREAM[:1])
    refused(plugin_of(name), state, headless, r"'classifier.classifiers.1.*heads still have to be")


@pytest.mark.filterwarnings("ignore:these parameters have disappeared")
@pytest.mark.parametrize("name", ["MAS", "modeIMM"])
def test_without_the_model_training_finds_out_before_it_changes_anything(name):
    wide, plugin = Wide(), plugin_of(name)
    plugin.load_state_dict(state_of(learnt(name)))
    strategy = strategy_of(wide, plugin)
    before = bits(wide.state_dict())
    with pytest.raises(ValueError, match=r"'features.1.weight' went from shape"):
        strategy.train(STREAM[2])
    assert before.items() <= bits(wide.state_dict()).items()
