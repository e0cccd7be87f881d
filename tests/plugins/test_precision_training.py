"""Training in mixed precision: autocast, and a gradient scaler that must not be noticed."""

import pytest
import torch
from avalanche.models import MultiHeadClassifier
from avalanche.models.dynamic_modules import avalanche_model_adaptation
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.supervised import Naive
from every_method import OURS, ManyHeads, make
from tiny_avalanche import (
    ESTIMATE,
    FEATURES,
    PLUGINS,
    MultiHead,
    Watch,
    assert_close,
    clusters,
    mlp,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn, optim

from avalanche_mas import EWCPlugin, MASPlugin, SIPlugin
from avalanche_mas.models.heads import TaskHeads


class Mixed(Naive):
    """A strategy as users write it: autocast, and a scaler where there is one."""

    def __init__(self, *, dtype=None, scaler=None, unscales=False, **kwargs):
        super().__init__(**kwargs)
        self.dtype, self.scaler, self.unscales = dtype, scaler, unscales

    def autocast(self):
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def forward(self):
        with self.autocast():
            return super().forward()

    def criterion(self):
        with self.autocast():
            return super().criterion()

    def backward(self):
        if self.scaler is None:
            return super().backward()
        self.scaler.scale(self.loss).backward()
        if self.unscales:  # to clip gradients, say
            self.scaler.unscale_(self.optimizer)

    def optimizer_step(self):
        if self.scaler is None:
            return super().optimizer_step()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def scaler():
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)


def mixed(model, *plugins, criterion=None, **options):
    return Mixed(
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
        criterion=criterion or nn.CrossEntropyLoss(),
        train_mb_size=5,
        eval_mb_size=7,
        train_epochs=2,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loggers=[]),
        **options,
    )


PENALTIES = {
    f"{plugin.__name__}, {step}": (plugin, step)
    for plugin in [*PLUGINS, EWCPlugin, SIPlugin]
    for step in ("proximal", "gradient")
}


@pytest.mark.parametrize("unscales", [False, True])
@pytest.mark.parametrize("name", PENALTIES)
def test_a_scaler_changes_no_bit(name, unscales):
    """Powers of two come and go without a trace, so the penalty must be that of true gradients."""
    plugin_type, step = PENALTIES[name]
    runs = []
    for options in ({}, {"scaler": scaler(), "unscales": unscales}):
        torch.manual_seed(0)
        plugin = plugin_type(0.5, step=step)
        strategy = train(mixed(mlp(), plugin, **options), split().train_stream[:2])
        runs.append((weights(strategy.model), dict(plugin.importance)))
    assert same_bits(runs[0][0], runs[1][0])
    assert same_bits(runs[0][1], runs[1][1])


@pytest.mark.parametrize("name", OURS)
def test_nor_for_any_other_method(name):
    runs = []
    for kind in (None, scaler()):
        torch.manual_seed(0)
        strategy = make(OURS[name], ManyHeads(), 0.5)
        strategy.__class__, strategy.dtype = Mixed, None
        strategy.scaler, strategy.unscales = kind, False
        runs.append(weights(train(strategy, split(task_labels=True).train_stream[:2]).model))
    assert same_bits(*runs)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_step_that_is_skipped_moves_nothing(name):
    """An infinite loss in the second task: neither the task's step nor the penalty's pull."""
    plugin_type, step = PENALTIES[name]
    plugin, own, steps = plugin_type(0.5, step=step), scaler(), []

    def criterion(output, y):
        steps.append(len(output))
        return nn.functional.cross_entropy(output, y) * (torch.inf if len(steps) == 12 else 1)

    states = Watch("after_update", lambda strategy: weights(strategy.model))
    strategy = mixed(mlp(), plugin, states, criterion=criterion, scaler=own)
    train(strategy, split().train_stream[:2])
    moved = [not same_bits(a, b) for a, b in zip(states.seen, states.seen[1:], strict=False)]
    assert len(moved) == 15
    assert [i for i, has in enumerate(moved) if not has] == [10]  # from the 11th step to the 12th
    assert own.get_scale() == 2.0**9
    assert all(omega.isfinite().all() for omega in plugin.importance.values())


class SharedHeads(MultiHead):
    """With this package's heads."""

    def __init__(self):
        super().__init__()
        self.heads = TaskHeads(16)


HEADS = {"one head": mlp, "Avalanche's heads": MultiHead, "own heads": SharedHeads}
AUTOCAST = {"bfloat16": (torch.bfloat16, None), "float16": (torch.float16, scaler)}


@pytest.mark.parametrize("plugin_type", PLUGINS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("name", AUTOCAST)
def test_autocast(name, heads, plugin_type):
    """Batches are of several tasks, by replay. Ω is measured in the parameters' own float32."""
    dtype, make_scaler = AUTOCAST[name]
    model, plugin = HEADS[heads](), plugin_type(1e8)
    seen = Watch("after_forward", lambda strategy: strategy.mb_output.dtype)
    options = {"dtype": dtype, "scaler": make_scaler and make_scaler()}
    strategy = mixed(model, plugin, ReplayPlugin(mem_size=20), seen, **options)
    stream = split(task_labels=heads != "one head").train_stream
    train(strategy, stream[:1])
    call = {} if heads == "one head" else {"forward": lambda model, x: model(x, 0)}
    own = ESTIMATE[plugin_type](model, clusters()[0][:20], **call)
    assert_close(plugin.importance, own)
    before, omega = weights(model), dict(plugin.importance)
    train(strategy, stream[1:2])
    assert set(seen.seen) == {dtype}
    assert all(tensor.isfinite().all() for tensor in weights(model).values())
    assert {tensor.dtype for tensor in plugin.importance.values()} == {torch.float32}
    for name, marks in omega.items():
        assert torch.equal(model.get_parameter(name)[marks > 1], before[name][marks > 1])
    assert any((marks > 1).any() for marks in omega.values())
    assert not same_bits(weights(model), before)


def test_avalanches_heads_are_as_before_without_autocast():
    heads = MultiHeadClassifier(16)
    for experience in split(task_labels=True).train_stream:
        heads.adaptation(experience)
    x, tasks = torch.randn(7, 16), torch.tensor([0, 2, 1, 1, 0, 2, 2])
    plain = heads(x, tasks)
    assert torch.equal(plain, type(heads).forward.__wrapped__(heads, x, tasks))
    with torch.autocast("cpu", torch.bfloat16):
        half = heads(x, tasks)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), plain, rtol=2e-2, atol=2e-2)
        with pytest.raises(RuntimeError, match="dtypes match"):  # what the repair is for
            type(heads).forward.__wrapped__(heads, x, tasks)


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_a_network_in_half_precision(step):
    """Ω and the pull are computed in float32, and θ is rounded once."""
    model, plugin = mlp().half(), MASPlugin(0.1, step=step)
    train(mixed(model, plugin), split(dtype=torch.float16).train_stream[:2])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert {omega.dtype for omega in plugin.penalty.omega.values()} == {torch.float32}
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(omega.isfinite().all() for omega in plugin.importance.values())


def test_avalanches_heads_take_empty_batches_under_autocast():
    """As without it."""
    model = MultiHead()
    for experience in split(task_labels=True).train_stream:
        avalanche_model_adaptation(model, experience)
    x, none = torch.zeros(0, FEATURES), torch.zeros(0, dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x, none).shape == (0, 2)
