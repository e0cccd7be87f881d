"""SI against its paper's equations, written down as a training loop of its own."""

import copy
import functools

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.training.plugins import SynapticIntelligencePlugin
from tiny_avalanche import (
    FEATURES,
    MultiHead,
    Watch,
    assert_close,
    mlp,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn, optim

from avalanche_mas import Importance
from avalanche_mas.plugins import SIPlugin

XI = 0.05
equal = functools.partial(assert_close, rtol=1e-10, atol=1e-12)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def stream():
    return split(dtype=torch.float64).train_stream


class Twin:
    """SGD with momentum, and SI, parameter by parameter: Eq. 3-5, and the penalty c Σ Ω (θ̃−θ)²."""

    def __init__(self, model, c, lr, momentum, step):
        self.model, self.c, self.lr, self.momentum, self.step = model, c, lr, momentum, step
        self.big_omega = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
        self.anchor = None
        self.velocity = {}  # rolls on from task to task, as Avalanche keeps the optimizer
        self.lowest = 0.0  # ω of all tasks and parameters

    def learn(self, batches):
        start = weights(self.model)
        small_omega = {n: torch.zeros_like(p) for n, p in self.model.named_parameters()}
        for x, y in batches:
            loss = nn.functional.cross_entropy(self.model(x), y)
            names = list(start)
            gradients = torch.autograd.grad(loss, list(self.model.parameters()))
            for name, g in zip(names, gradients, strict=True):
                parameter = self.model.get_parameter(name).data
                before, push = parameter.clone(), g.clone()
                strength = 2 * self.c * self.big_omega[name]
                if self.anchor and self.step == "gradient":
                    push += strength * (parameter - self.anchor[name])
                if name in self.velocity:
                    push += self.momentum * self.velocity[name]
                self.velocity[name] = push
                parameter -= self.lr * push
                if self.anchor and self.step == "proximal":
                    eta = self.lr / (1 - self.momentum)
                    pulled = (parameter - self.anchor[name]) / (1 + eta * strength)
                    parameter.copy_(self.anchor[name] + pulled)
                small_omega[name] -= g * (parameter - before)
        for name, end in weights(self.model).items():
            self.lowest = min(self.lowest, float(small_omega[name].min()))
            new = small_omega[name] / ((end - start[name]) ** 2 + XI)
            self.big_omega[name] += torch.maximum(new, torch.zeros(()))
        self.anchor = weights(self.model)


@pytest.mark.parametrize("step", ["proximal", "gradient"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_importance_and_weights_are_those_of_the_equations(stream, momentum, step):
    """Over three tasks, so that the penalty is active, and its gradient no part of ω."""
    model = nn.Sequential(nn.Linear(FEATURES, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 6))
    c = 0.05
    twin = Twin(copy.deepcopy(model), c, 0.02, momentum, step)
    plugin = SIPlugin(2 * c, xi=XI, step=step)
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=momentum)
    batches = Watch("after_forward", lambda s: (s.mb_x.clone(), s.mb_y.clone()))
    strategy = naive(model, plugin, batches, optimizer=optimizer)
    for experience in stream:
        train(strategy, [experience])
        twin.learn(batches.seen)
        batches.seen.clear()
        equal(plugin.importance, twin.big_omega)
        equal(weights(model), twin.anchor)
        assert same_bits(plugin.penalty.anchor, weights(model))
    assert all(omega.min() >= 0 for omega in plugin.importance.values())
    assert twin.lowest < -1e-4 or not momentum  # so that the cut at 0 is seen
    assert plugin.importance.samples == 3 * 2 * 20  # experiences, epochs, samples
    assert plugin.path is None


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_the_penalty_acts_in_the_twin(stream, step):
    """What the comparison above would not see if the penalty were too weak to matter."""
    runs = []
    original = mlp()
    for strength in (0.0, 0.1):
        model = copy.deepcopy(original)
        runs.append(
            weights(train(naive(model, SIPlugin(strength, xi=XI, step=step)), stream).model)
        )
    assert max((a - b).abs().max() for a, b in zip(*(r.values() for r in runs), strict=True)) > 1e-2


def test_avalanches_si_is_the_same_for_every_strength_on_a_cpu():
    """Its θ*, θ before and θ after the step are one and the same memory there."""
    torch.set_default_dtype(torch.float32)
    stream, original = split().train_stream, mlp()
    runs = {}
    for name, make in {
        "naive": lambda: [],
        "avalanche, 1e-2": lambda: [SynapticIntelligencePlugin(1e-2)],
        "avalanche, 1e8": lambda: [SynapticIntelligencePlugin(1e8)],
        "ours, 0": lambda: [SIPlugin(0.0)],
        "ours, 1e-2": lambda: [SIPlugin(1e-2)],
        "ours, 1e8": lambda: [SIPlugin(1e8)],
    }.items():
        model = copy.deepcopy(original)
        runs[name] = weights(train(naive(model, *make()), stream).model)
    assert same_bits(runs["naive"], runs["avalanche, 1e-2"])
    assert same_bits(runs["naive"], runs["avalanche, 1e8"])
    assert same_bits(runs["naive"], runs["ours, 0"])
    assert not same_bits(runs["naive"], runs["ours, 1e-2"])
    assert not same_bits(runs["ours, 1e-2"], runs["ours, 1e8"])


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_without_strength_it_is_finetuning_bit_for_bit(stream, step):
    original = nn.Sequential(mlp(6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 6))
    runs = []
    for plugins in ([], [SIPlugin(0.0, step=step)]):
        model = copy.deepcopy(original)
        torch.manual_seed(0)
        naive(model, *plugins).train(stream)
        runs.append(model.state_dict() | {"random": torch.rand(3)})
    assert same_bits(*runs)


def test_a_huge_strength_freezes_what_is_marked(stream):
    model, plugin = mlp(), SIPlugin(1e12)
    strategy = train(naive(model, plugin), stream[:1])
    before, omega = weights(model), dict(plugin.importance)
    train(strategy, stream[1:])
    for name, after in weights(model).items():
        marked = omega[name] > 1e-3
        assert marked.any()
        assert (after - before[name])[marked].abs().max() < 1e-6


def test_heads_and_frozen_parameters():
    """A head is marked by its own task alone, and keeps its Ω and its bits afterwards."""
    model = MultiHead()
    model.features[0].bias.requires_grad_(False)
    plugin = SIPlugin(0.1)
    strategy, heads = naive(model, plugin), []
    for experience in split(task_labels=True, dtype=torch.float64).train_stream:
        train(strategy, [experience])
        own = f"heads.classifiers.{experience.task_label}.classifier."
        head = {n: o.clone() for n, o in plugin.importance.items() if n.startswith(own)}
        heads.append((head, {n: weights(model)[n] for n in head}))
    for omega, parameters in heads:
        assert len(omega) == 2
        assert all(o.any() for o in omega.values())
        assert same_bits({n: plugin.importance[n] for n in omega}, omega)
        assert same_bits({n: weights(model)[n] for n in parameters}, parameters)
    assert "features.0.bias" not in plugin.importance
    assert plugin.importance["features.0.weight"].any()


def test_unfreezing_between_experiences(stream):
    model, plugin = mlp(), SIPlugin(0.1)
    model[0].requires_grad_(False)
    strategy = train(naive(model, plugin), stream[:1])
    assert set(plugin.importance) == {"2.weight", "2.bias"}
    model[0].requires_grad_(True)
    train(strategy, stream[1:2])
    assert plugin.importance["0.weight"].any()


def test_importance_known_beforehand_and_a_pretrained_network(stream):
    """θ_start is where the experience begins, and what is known protects from the beginning."""
    model = mlp()
    known = Importance({n: torch.ones_like(p) for n, p in model.named_parameters()}, samples=1)
    before = weights(model)
    plugin = SIPlugin(1e10, initial=known)
    train(naive(model, plugin), stream[:1])
    for name, after in weights(model).items():
        assert (after - before[name]).abs().max() < 1e-6
        assert (plugin.importance[name] >= 1).all()
    assert plugin.tasks == 2


@pytest.mark.parametrize("accumulate", ["sum", "mean", 0.5])
def test_accumulation_is_that_of_the_other_methods(stream, accumulate):
    plugin = SIPlugin(0.0, accumulate=accumulate)
    paths = Watch("after_training_epoch", lambda strategy: plugin.path.importance(plugin.xi))
    train(naive(mlp(), plugin, paths, epochs=1), stream[:2])
    a, b = paths.seen
    factor = {"sum": (1, 1), "mean": (0.5, 0.5), 0.5: (0.5, 0.5)}[accumulate]
    equal(plugin.importance, {n: factor[0] * a[n] + factor[1] * b[n] for n in a})


def test_parts_of_an_online_stream_are_one_path(stream):
    """The path goes on from part to part: as one pass over the same samples in the same order."""
    runs = []
    for experiences in (stream, list(split_online_stream(stream, 5, shuffle=False))):
        torch.manual_seed(3)
        model, plugin = mlp(), SIPlugin(0.1)
        strategy = naive(model, plugin, epochs=1)
        for experience in experiences:
            strategy.train(experience, shuffle=False)
        assert plugin.tasks == 3
        runs.append((weights(model), dict(plugin.importance)))
    equal(runs[1][0], runs[0][0])
    equal(runs[1][1], runs[0][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_precision_is_that_of_the_parameters_or_better(dtype):
    torch.set_default_dtype(torch.float32)
    model, plugin = mlp().to(dtype), SIPlugin(1.0)
    train(naive(model, plugin), split(dtype=dtype).train_stream)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {omega.dtype for omega in plugin.importance.values()} == {wide}
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert all(omega.isfinite().all() for omega in plugin.importance.values())
    assert plugin.importance["0.weight"].any()


def test_memory_during_and_between_experiences(stream):
    """ω, θ_start and two copies while training; afterwards Ω and θ* only."""

    def stored():
        path = plugin.path
        if path is None:
            return 0
        tensors = [path.omega, path.start, path._gradient, path._before]
        return sum(t.nbytes for kept in tensors for t in kept.values())

    plugin, model = SIPlugin(), mlp()
    during = Watch("after_training_epoch", lambda strategy: stored())
    train(naive(model, plugin, during), stream)
    one = sum(p.nbytes for p in model.parameters())
    assert set(during.seen) == {4 * one}
    assert stored() == 0


@pytest.mark.parametrize("stop", [4, 6], ids=["between experiences", "in the middle of one"])
def test_a_checkpoint_resumes_bit_for_bit(stream, stop, tmp_path):
    """Of an online stream of four parts for each experience, the path is part of the state."""
    parts = list(split_online_stream(stream, 5, shuffle=False))
    original, runs = nn.Sequential(mlp(), nn.Dropout(0.3)), []

    def start():
        torch.manual_seed(0)
        return naive(copy.deepcopy(original), SIPlugin(0.5), epochs=1)

    for resumed in (False, True):
        strategy = start()
        for part in parts[:stop]:
            strategy.train(part)
        if resumed:
            save_checkpoint(strategy, tmp_path / "checkpoint.pkl")
            strategy, _ = maybe_load_checkpoint(start(), tmp_path / "checkpoint.pkl")
        for part in parts[stop:]:
            strategy.train(part)
        (plugin,) = (p for p in strategy.plugins if isinstance(p, SIPlugin))
        assert plugin.tasks == 3
        runs.append([weights(strategy.model), dict(plugin.importance)])
    assert same_bits(runs[0][0], runs[1][0])
    assert same_bits(runs[0][1], runs[1][1])


@pytest.mark.parametrize("xi", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_damping(xi):
    with pytest.raises(ValueError, match="xi must be a positive number"):
        SIPlugin(xi=xi)
