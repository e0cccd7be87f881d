"""Plugins that have learnt two tasks of three, and what is asked of their states."""

import functools

import torch
from avalanche.models.dynamic_modules import avalanche_model_adaptation
from avalanche.training.supervised import Naive
from interrupted import METHODS_OF_OURS, OPTIONS, STRENGTH, Net, checksums
from torch import optim

from avalanche_mas import HeadWarmupPlugin
from avalanche_mas.benchmarks import split_digits
from avalanche_mas.plugins.registry import METHODS

PLUGINS = [*METHODS_OF_OURS, "warm-up"]
STREAM = split_digits().train_stream[:3]


def plugin_of(name):
    """A new one."""
    if name == "warm-up":
        return HeadWarmupPlugin(1)
    (plugin,) = METHODS[name].plugins(STRENGTH, **OPTIONS.get(name, {}))
    return plugin


def strategy_of(model, plugin):
    """Without momentum, which Avalanche forgets when a strategy first sees a model."""
    return Naive(
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=0.02),
        train_mb_size=40,
        eval_mb_size=128,
        plugins=[plugin],
        evaluator=None,
    )


def with_heads(experiences, model=None):
    """A network with the heads that it has after these experiences."""
    model = Net() if model is None else model
    for experience in experiences:
        avalanche_model_adaptation(model, experience)
    return model


def learn(strategy, experiences):
    """Each from a random state of its own."""
    for experience in experiences:
        torch.manual_seed(experience.current_experience)
        strategy.train(experience)


@functools.cache
def learnt(name):
    """A strategy after two tasks; it is only looked at, or copied."""
    torch.manual_seed(0)
    strategy = strategy_of(Net(), plugin_of(name))
    learn(strategy, STREAM[:2])
    return strategy


def state_of(strategy):
    """Of its plugin."""
    return strategy.plugins[0].state_dict()


def bits(state):
    """Name of each leaf → its checksum."""
    return dict(checksums("", state))
