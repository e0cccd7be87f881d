"""Models as people have them: growing heads, frozen or shared layers, dtypes, wrappers, outputs."""

import copy
import functools

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.models import IncrementalClassifier
from tiny_avalanche import (
    ESTIMATE,
    FEATURES,
    PLUGINS,
    MultiHead,
    assert_close,
    clusters,
    dataset,
    mlp,
    move,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn, optim
from torch.utils.data import TensorDataset

pytestmark = pytest.mark.parametrize("plugin_type", PLUGINS)


def pulled_back(plugin, strategy, experience, name):
    """Whether a displaced parameter is pulled back to its anchor in the next experience."""
    anchor = plugin.penalty.anchor[name].clone()
    marked = plugin.importance[name] > 0.1 * plugin.importance[name].max()
    assert marked.any()
    move(strategy.model)
    train(strategy, [experience])
    now = next(p for n, p in weights(strategy.model).items() if n.endswith(name))
    return torch.allclose(now[marked], anchor[marked], atol=1e-3)


class Growing(nn.Module):
    """Features and a head that gets more units as classes come."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU())
        self.head = IncrementalClassifier(16, initial_out_features=2)

    def forward(self, x):
        return self.head(self.features(x))


def test_a_growing_head_protects_its_old_part(plugin_type):
    plugin = plugin_type(1e8)
    strategy = naive(Growing(), plugin)
    first, second, third = split().train_stream
    train(strategy, [first])
    name = "head.classifier.weight"
    old = weights(strategy.model)[name]
    marked = plugin.importance[name] > 1
    assert marked.any()
    train(strategy, [second])
    new = weights(strategy.model)[name]
    assert new.shape == (4, 16)
    assert torch.equal(new[:2][marked], old[marked])
    assert plugin.importance[name].shape == (4, 16)
    assert plugin.importance[name][2:].any()
    train(strategy, [third])
    assert plugin.importance[name].shape == (6, 16)


def test_heads_of_unequal_size(plugin_type):
    """Tasks of 2, 4 and 3 classes; each head's Ω is that of its own output, without padding."""
    x, y = clusters(n_classes=9)
    tasks = [(0, 2), (2, 6), (6, 9)]
    parts = [(y >= low) & (y < high) for low, high in tasks]
    data = [dataset(x[p], y[p] - y[p].min(), task) for task, p in enumerate(parts)]
    benchmark = nc_benchmark(
        data,
        data,
        3,
        task_labels=True,
        one_dataset_per_exp=True,
        shuffle=False,
        class_ids_from_zero_in_each_exp=True,
    )
    model, plugin = MultiHead(), plugin_type(0.1)
    strategy = naive(model, plugin)
    for task, experience in enumerate(benchmark.train_stream):
        before = {} if plugin.importance is None else dict(plugin.importance)
        train(strategy, [experience])
        own = ESTIMATE[plugin_type](
            model, x[parts[task]], forward=lambda m, x, task=task: m(x, task)
        )
        assert_close(plugin.importance, {n: own[n] + before.get(n, 0) for n in own})
        head = f"heads.classifiers.{task}.classifier.weight"
        assert own[head].shape[0] == tasks[task][1] - tasks[task][0]


def test_frozen_parameters_take_no_part(plugin_type):
    model = mlp()
    model[0].weight.requires_grad_(False)
    before = weights(model)["0.weight"]
    plugin = plugin_type(10.0)
    train(naive(model, plugin), split().train_stream)
    assert set(plugin.importance) == set(plugin.penalty.anchor) == {"0.bias", "2.weight", "2.bias"}
    assert torch.equal(model[0].weight, before)


def test_unfreezing_and_freezing_between_experiences(plugin_type):
    model, plugin = mlp(), plugin_type(1e8)
    strategy = naive(model, plugin)
    first, second, third = split().train_stream
    model[0].requires_grad_(False)
    train(strategy, [first])
    model[0].requires_grad_(True)
    before = weights(model)
    train(strategy, [second])  # free to move, as nothing is known of it, and measured afterwards
    assert not torch.equal(model[0].weight, before["0.weight"])
    assert plugin.importance["0.weight"].any()
    omega = plugin.importance["0.weight"]
    model[0].requires_grad_(False)
    before = weights(model)
    train(strategy, [third])
    assert torch.equal(model[0].weight, before["0.weight"])
    assert torch.equal(plugin.importance["0.weight"], omega)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


class Shared(nn.Module):
    """One layer, used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(FEATURES, FEATURES)
        self.again = self.first
        self.head = nn.Linear(FEATURES, 6)

    def forward(self, x):
        return self.head(self.again(self.first(x).relu()).relu())


def test_shared_weights_are_one_parameter(plugin_type):
    plugin = plugin_type(1e8)
    strategy = naive(Shared(), plugin)
    stream = split().train_stream
    train(strategy, stream[:1])
    assert set(plugin.importance) == {"first.weight", "first.bias", "head.weight", "head.bias"}
    assert pulled_back(plugin, strategy, stream[1], "first.weight")


def regression(n_experiences=2):
    """Vector targets, no task labels."""
    generator = torch.Generator().manual_seed(3)
    data = [
        AvalancheDataset(
            [TensorDataset(*torch.randn(2, 40, FEATURES, generator=generator).unbind(0))]
        )
        for _ in range(n_experiences)
    ]
    return benchmark_from_datasets(train=data, test=data).train_stream


def test_regression_without_task_labels(plugin_type):
    plugin, model = plugin_type(1e8), mlp(outputs=FEATURES)
    strategy = naive(model, plugin, criterion=nn.MSELoss())
    first, second = regression()
    train(strategy, [first])
    assert_close(plugin.importance, ESTIMATE[plugin_type](model, first.dataset))
    assert pulled_back(plugin, strategy, second, "0.weight")


class TwoOutputs(nn.Module):
    """Returns (class scores, {"value": a number})."""

    def __init__(self):
        super().__init__()
        self.features, self.scores = nn.Linear(FEATURES, 16), nn.Linear(16, 6)
        self.value = nn.Linear(16, 1)

    def forward(self, x):
        hidden = self.features(x).relu()
        return self.scores(hidden), {"value": self.value(hidden)}


def test_outputs_that_are_tuples_and_dicts(plugin_type):
    def criterion(output, y):
        return nn.functional.cross_entropy(output[0], y) + output[1]["value"].square().mean()

    plugin = plugin_type(1e8)
    strategy = naive(TwoOutputs(), plugin, criterion=criterion)
    stream = split().train_stream
    train(strategy, stream[:1])
    assert plugin.importance["value.weight"].any()
    assert plugin.importance["scores.weight"].any()
    assert pulled_back(plugin, strategy, stream[1], "features.weight")


def test_float64_throughout(plugin_type):
    torch.set_default_dtype(torch.float64)
    model, plugin = MultiHead(), plugin_type(0.1)
    experience = split(task_labels=True, dtype=torch.float64).train_stream[0]
    train(naive(model, plugin), [experience])
    own = ESTIMATE[plugin_type](
        model, clusters(dtype=torch.float64)[0][:20], forward=lambda m, x: m(x, 0), batch_size=1
    )
    assert {omega.dtype for omega in plugin.importance.values()} == {torch.float64}
    assert_close(plugin.importance, own, rtol=1e-12, atol=1e-14)
    assert plugin.penalty.value().dtype == torch.float64


def test_bfloat16(plugin_type):
    model, plugin = mlp().bfloat16(), plugin_type(1e8)
    strategy = naive(model, plugin)
    stream = split(dtype=torch.bfloat16).train_stream
    train(strategy, stream[:1])
    assert {omega.dtype for omega in plugin.importance.values()} == {torch.float32}
    assert pulled_back(plugin, strategy, stream[1], "0.weight")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


class Conv(nn.Module):
    """Eight numbers as a 2 × 2 × 2 image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(16, 6)

    def forward(self, x):
        return self.head(self.norm(self.conv(x.view(-1, 2, 2, 2))).relu().flatten(1))


def test_channels_last_computes_the_same(plugin_type):
    runs = []
    original = Conv()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = copy.deepcopy(original).to(memory_format=memory_format)
        plugin = plugin_type(1e3)
        train(naive(model, plugin), split().train_stream)
        runs.append((weights(model), dict(plugin.importance)))
        strides = model.conv.weight.stride()
        assert plugin.penalty.anchor["conv.weight"].stride() == strides
        assert plugin.penalty.omega["conv.weight"].stride() == strides
    assert strides != Conv().conv.weight.stride()
    assert_close(runs[1][0], runs[0][0], rtol=1e-3, atol=1e-4)
    assert_close(runs[1][1], runs[0][1], rtol=1e-3, atol=1e-3)


def test_channels_last_keeps_the_importance_once(plugin_type):
    """Where one channel or one point makes two layouts the same, torch names either."""
    convolutions = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 2, groups=8), nn.Flatten()
    model = nn.Sequential(nn.Unflatten(1, (2, 2, 2)), *convolutions, nn.Linear(8, 6))
    plugin = plugin_type(1.0)
    train(naive(model.to(memory_format=torch.channels_last), plugin), split().train_stream)
    for name in ("1.weight", "2.weight"):
        omega = plugin.penalty.omega[name]
        assert omega.stride() == plugin.penalty.anchor[name].stride()
        assert omega.data_ptr() == plugin.importance[name].data_ptr()


WRAP = {
    "parallel": nn.DataParallel,
    "compiled": functools.partial(torch.compile, backend="eager"),
}


@pytest.mark.parametrize("wrap", WRAP.values(), ids=WRAP)
def test_wrapping_and_unwrapping_keep_the_penalty(plugin_type, wrap):
    model, plugin = mlp(), plugin_type(1e8)
    strategy = naive(model, plugin)
    first, second, third = split().train_stream
    train(strategy, [first])
    strategy.model = wrap(model)
    assert "0.weight" not in weights(strategy.model)
    assert pulled_back(plugin, strategy, second, "0.weight")
    assert "0.weight" in plugin.importance
    strategy.model = model
    assert pulled_back(plugin, strategy, third, "0.weight")
    assert set(plugin.importance) == set(weights(model))
    assert plugin.tasks == 3


def test_a_head_that_is_thrown_away_is_named(plugin_type):
    model, plugin = mlp(), plugin_type(1e8)
    strategy = naive(model, plugin)
    stream = split().train_stream
    train(strategy, stream[:1])
    marked, before = plugin.importance["0.weight"] > 1, weights(model)["0.weight"]
    model.pop(2)
    model.append(nn.Sequential(nn.Linear(16, 6)))
    strategy.optimizer = optim.SGD(model.parameters(), lr=0.02)
    with pytest.warns(UserWarning, match=r"no longer protected: 2\.weight, 2\.bias"):
        train(strategy, stream[1:2])
    torch.testing.assert_close(model[0].weight.detach()[marked], before[marked])
    assert plugin.importance["2.0.weight"].any()


def test_a_parameter_that_appears_later_is_free_and_then_measured(plugin_type):
    model, plugin = mlp(), plugin_type(1e8)
    strategy = naive(model, plugin)
    stream = split().train_stream
    train(strategy, stream[:1])
    model.append(nn.Linear(6, 6))
    before = weights(model)
    train(strategy, stream[1:2])
    assert not same_bits({"w": model[3].weight}, {"w": before["3.weight"]})
    assert plugin.importance["3.weight"].any()
