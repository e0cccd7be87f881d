"""Incremental moment matching with models and streams as people have them."""

import copy
import functools

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.models import IncrementalClassifier, MultiTaskModule
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
from torch.utils.data import TensorDataset

from avalanche_mas import estimate_importance
from avalanche_mas.plugins import IMMPlugin


def solutions():
    """A plugin that records all parameters at the end of each experience."""
    return Watch("after_training_exp", lambda strategy: weights(strategy.model))


class Normalised(MultiTaskModule):
    """BatchNorm in the shared part, and one more in each head; all heads are there at once."""

    def __init__(self):
        super().__init__()
        self.features, self.norm = nn.Linear(FEATURES, 16), nn.BatchNorm1d(16)
        heads = [nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 2)) for _ in range(3)]
        self.heads = nn.ModuleList(heads)

    def forward_single_task(self, x, task_label):
        return self.heads[task_label](self.norm(self.features(x)).relu())


@pytest.mark.parametrize("mode", ["mean", "mode"])
def test_statistics_are_averaged_over_the_tasks_that_changed_them(mode):
    model, plugin = Normalised(), IMMPlugin(0.1)
    seen = Watch("after_training_exp", lambda strategy: copy.deepcopy(strategy.model.state_dict()))
    strategy = naive(model, plugin, seen)
    stream = split(task_labels=True).train_stream
    train(strategy, stream)
    ratios = (0.5, 0.3, 0.2)
    merged = plugin.merged(mode, ratios=ratios).state_dict()
    for name in ("norm.running_mean", "norm.running_var"):
        expected = sum(a * state[name] for a, state in zip(ratios, seen.seen, strict=True))
        torch.testing.assert_close(merged[name], expected)
    for task, state in enumerate(seen.seen):
        own = [name for name in state if name.startswith(f"heads.{task}.")]
        assert all(torch.equal(merged[name], state[name]) for name in own)
        assert not torch.equal(merged[f"heads.{task}.0.running_mean"], torch.zeros(16))
    assert merged["norm.num_batches_tracked"] == model.norm.num_batches_tracked > 0


class Growing(nn.Module):
    """A head that gets two more units with each experience."""

    def __init__(self):
        super().__init__()
        self.head = IncrementalClassifier(FEATURES, initial_out_features=2)

    def forward(self, x):
        return self.head(x)


@pytest.mark.parametrize("mode", ["mean", "mode"])
def test_units_of_a_growing_head_are_merged_over_the_tasks_that_knew_them(mode):
    model, plugin, seen = Growing(), IMMPlugin(0.1), solutions()
    train(naive(model, plugin, seen), split().train_stream)
    name = "head.classifier.weight"
    merged = plugin.merged(mode).head.classifier.weight
    for first, units in enumerate([slice(0, 2), slice(2, 4), slice(4, 6)]):
        theta = torch.stack([state[name][units] for state in seen.seen[first:]])
        known = [fisher[name][units] for fisher in plugin.fishers[first:]]
        weight = torch.stack(known) if mode == "mode" else torch.ones_like(theta)
        torch.testing.assert_close(merged[units], (weight * theta).sum(0) / weight.sum(0))
    earlier = plugin.merged(mode, upto=1).head.classifier.weight
    assert torch.equal(earlier[:2], seen.seen[0][name])
    assert torch.equal(earlier[2:], model.head.classifier.weight[2:])


def test_what_is_frozen_and_what_is_shared():
    model, seen = mlp(FEATURES, hidden=FEATURES), solutions()
    model.append(model[0])  # used twice, one parameter
    model[2].bias.requires_grad_(False)
    plugin = IMMPlugin(0.1)
    strategy = naive(model, plugin, seen)
    first, second, _ = split().train_stream
    train(strategy, [first])
    model[2].weight.requires_grad_(False)
    train(strategy, [second])
    a, b = seen.seen
    merged = plugin.merged("mean")
    assert set(plugin.solutions[0]) == {"0.weight", "0.bias", "2.weight"}
    assert set(plugin.solutions[1]) == set(plugin.fishers[1]) == {"0.weight", "0.bias"}
    assert merged[3].weight is merged[0].weight
    assert torch.equal(merged[0].weight, (a["0.weight"] + b["0.weight"]) / 2)
    assert torch.equal(merged[2].weight, a["2.weight"])
    assert torch.equal(merged[2].bias, model[2].bias)


def compiled_inside(model):
    return nn.Sequential(torch.compile(model[0], backend="eager"), model[1])


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, functools.partial(torch.compile, backend="eager"), compiled_inside]
)
def test_wrapping_between_tasks(wrap):
    model, plugin = nn.Sequential(mlp(), nn.BatchNorm1d(6)), IMMPlugin(0.1)
    strategy = naive(model, plugin)
    first, second, _ = split().train_stream
    train(strategy, [first])
    a = copy.deepcopy(model.state_dict())
    strategy.model = wrap(model)
    train(strategy, [second])
    b = model.state_dict()
    merged = plugin.merged("mean")
    expected = {name: (a[name] + b[name]) / 2 for name in b if b[name].is_floating_point()}
    names = {name.replace("_orig_mod.", ""): t for name, t in merged.state_dict().items()}
    assert same_bits({name: names[name] for name in expected}, expected)


def test_evaluation_before_training_gives_heads_but_nothing_to_merge():
    plugin, benchmark = IMMPlugin(0.1), split(task_labels=True)
    strategy = naive(MultiHead(), plugin)
    for task, experience in enumerate(benchmark.train_stream):
        strategy.eval(benchmark.test_stream)
        train(strategy, [experience])
        heads = {name for name in plugin.solutions[task] if "heads" in name}
        own = {f"heads.classifiers.{task}.classifier.{part}" for part in ("weight", "bias")}
        assert heads == own


def test_parts_of_an_online_stream_are_one_task():
    """Statistics too: here they change in the first part alone."""
    model, plugin = nn.Sequential(mlp(), nn.BatchNorm1d(6)), IMMPlugin(0.1)
    first = Watch("before_training_epoch", lambda s: model[1].train(s.experience.is_first_subexp))
    strategy = naive(model, plugin, first)
    stream = split_online_stream(split().train_stream, experience_size=5)
    seen = []
    for part in stream:
        train(strategy, [part])
        if len(plugin.solutions) > len(seen):
            seen.append(copy.deepcopy(model.state_dict()))
    assert len(seen) == 3
    for solution, state in zip(plugin.solutions, seen, strict=True):
        floats = {name: t for name, t in state.items() if t.is_floating_point()}
        assert same_bits(dict(sorted(solution.items())), dict(sorted(floats.items())))


def test_a_resumed_run_merges_to_the_same_bits(tmp_path):
    stream, results = split(task_labels=True).train_stream, []

    def begin():
        torch.manual_seed(0)
        model = Normalised()
        optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        return naive(model, IMMPlugin(1.0, fisher="sampled"), optimizer=optimizer)

    for interrupted in (False, True):
        strategy = begin()
        strategy.train(stream[:2])
        if interrupted:
            save_checkpoint(strategy, tmp_path / "checkpoint")
            torch.manual_seed(1)
            strategy, start = maybe_load_checkpoint(begin(), tmp_path / "checkpoint")
            assert start == 2
        strategy.train(stream[2])
        plugin = next(p for p in strategy.plugins if isinstance(p, IMMPlugin))
        results.append([plugin.merged(m).state_dict() for m in ("mean", "mode")])
        assert plugin._model is strategy.model
    for mode in (0, 1):
        assert same_bits(results[0][mode], results[1][mode])


def test_regression():
    data = [TensorDataset(*torch.randn(2, 20, FEATURES).unbind(0)) for _ in range(2)]
    benchmark = benchmark_from_datasets(train=[AvalancheDataset([part]) for part in data])
    model, plugin = mlp(FEATURES), IMMPlugin(0.1, likelihood="gaussian")
    train(naive(model, plugin, criterion=nn.MSELoss()), benchmark.train_stream)
    F = estimate_importance(model, data[1], output="squares")
    assert_close(plugin.fishers[1], F)
    assert plugin.merged("mode")(data[0].tensors[0]).isfinite().all()
