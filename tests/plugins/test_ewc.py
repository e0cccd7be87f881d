"""EWC against its papers' equations written down naively, in Avalanche's own loop."""

import copy
import functools

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.training.plugins import EWCPlugin as AvalancheEWC
from naive_fisher import KINDS, naive_fisher, weighing
from tiny_avalanche import (
    MultiHead,
    Watch,
    assert_close,
    clusters,
    mlp,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn, optim
from torch.utils.data import TensorDataset

from avalanche_mas.plugins import EWCPlugin

equal = functools.partial(assert_close, rtol=1e-10, atol=1e-14)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def own_fisher(kind, model, task=None, seed=0):
    """F of an experience of :func:`split`, by the naive loop."""
    experience = seed
    x, y = clusters(dtype=torch.float64)
    part = slice(20 * experience, 20 * experience + 20)
    labels = (y[part] if task is None else y[part] - 2 * experience).tolist()
    options = {} if task is None else {"forward": lambda model, x: model(x, task)}
    return naive_fisher(
        model, list(zip(x[part], weighing(kind, labels, seed), strict=True)), **options
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multi_head", [False, True])
def test_separate_penalties_of_the_paper(kind, multi_head):
    """Eq. 3 summed over the tasks: value and gradient of the list that Avalanche would keep."""
    model = MultiHead() if multi_head else mlp()
    plugin = EWCPlugin(2.0, fisher=kind, batch_size=7)
    strategy, kept = naive(model, plugin), []
    stream = split(task_labels=multi_head, dtype=torch.float64).train_stream
    for experience in stream:
        train(strategy, [experience])
        number = experience.current_experience
        kept.append(
            (own_fisher(kind, model, number if multi_head else None, number), weights(model))
        )
    equal(
        plugin.importance,
        {n: sum(f[n] for f, _ in kept if n in f) for n, _ in model.named_parameters()},
    )
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape))
    expected = sum(
        (fisher[n] * (p - old[n]) ** 2).sum()
        for fisher, old in kept
        for n, p in model.named_parameters()
        if n in old
    )
    torch.testing.assert_close(plugin.penalty.value(), expected.detach(), rtol=1e-10, atol=0.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    plugin.penalty.add_gradient()
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-10, atol=1e-12)


def test_online_has_one_anchor_and_a_decay():
    """F ← γF + F_e."""
    plugin, model = EWCPlugin(2.0, mode="online", decay=0.3), mlp()
    strategy, kept = naive(model, plugin), []
    for experience in split(dtype=torch.float64).train_stream:
        train(strategy, [experience])
        kept.append(own_fisher("expected", model, seed=experience.current_experience))
    a, b, c = kept
    equal(plugin.importance, {n: 0.3 * (0.3 * a[n] + b[n]) + c[n] for n in a})
    assert same_bits(plugin.penalty.anchor, weights(model))
    assert plugin.penalty.value() == 0


def test_separate_and_online_differ_from_the_third_task_on():
    stream, original = split(dtype=torch.float64).train_stream, mlp().state_dict()
    runs = {}
    for mode in ("separate", "online"):
        model = mlp()
        model.load_state_dict(original)
        strategy, runs[mode] = naive(model, EWCPlugin(50.0, mode=mode)), []
        for experience in stream:
            train(strategy, [experience])
            runs[mode].append(weights(model))
    for separate, online, same in zip(*runs.values(), (True, True, False), strict=True):
        assert same_bits(separate, online) is same


def test_memory_is_constant_where_avalanches_grows():
    def stored(value, seen):
        if id(value) in seen:
            return 0
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            fresh = value.untyped_storage().data_ptr() not in seen
            seen.add(value.untyped_storage().data_ptr())
            return value.untyped_storage().nbytes() if fresh else 0
        if isinstance(value, dict):
            return sum(stored(v, seen) for v in value.values())
        if isinstance(value, (list, tuple)):
            return sum(stored(v, seen) for v in value)
        if type(value).__module__.startswith(("avalanche", "avalanche_mas")):
            return stored(vars(value), seen)
        return 0

    model, sizes = mlp(), {}
    one = sum(p.nbytes for p in model.parameters())
    for name, plugin in (("ours", EWCPlugin(1.0)), ("avalanche", AvalancheEWC(1.0))):
        sizes[name] = []
        strategy = naive(model, plugin, epochs=1)
        for experience in split(6, dtype=torch.float64).train_stream:
            train(strategy, [experience])
            known = {p.untyped_storage().data_ptr() for p in model.parameters()}
            sizes[name].append(stored(vars(plugin), known) / one)
    assert sizes["ours"] == [2.0] * 6  # one F and one anchor
    assert sizes["avalanche"][-1] > 5 * sizes["ours"][-1]


@pytest.mark.parametrize("plugin_type", [AvalancheEWC, EWCPlugin])
def test_avalanches_fisher_depends_on_the_batch_size(plugin_type):
    model, totals = mlp(), []
    for size in (1, 5, 20):
        plugin = plugin_type(
            1.0, **({} if plugin_type is AvalancheEWC else {"fisher": "empirical"})
        )
        strategy = naive(model, plugin, optimizer=optim.SGD(model.parameters(), lr=0.0), epochs=1)
        strategy.train_mb_size = strategy.eval_mb_size = size
        train(strategy, split(dtype=torch.float64).train_stream[:1])
        fisher = plugin.importance if plugin_type is EWCPlugin else plugin.importances[0]
        tensor = fisher["2.weight"]
        totals.append(float((tensor if plugin_type is EWCPlugin else tensor.data).sum()))
    if plugin_type is AvalancheEWC:
        assert totals[2] < 0.8 * totals[0]
    else:
        assert totals == pytest.approx([totals[0]] * 3, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_random_numbers_of_training_are_not_touched(kind):
    """λ = 0 is finetuning bit for bit, through shuffling and dropout."""
    runs = []
    for plugins in ([], [EWCPlugin(0.0, fisher=kind)]):
        torch.manual_seed(0)
        model = nn.Sequential(mlp(6), nn.Dropout(0.3), nn.BatchNorm1d(6), nn.Linear(6, 6))
        naive(model, *plugins).train(split(dtype=torch.float64).train_stream)
        runs.append(model.state_dict() | {"random": torch.rand(3)})
    assert same_bits(*runs)


@pytest.mark.parametrize("options", [{"fisher": "sampled"}, {"mode": "online", "decay": 0.5}])
def test_a_checkpoint_resumes_bit_for_bit(options, tmp_path):
    stream, runs = split(dtype=torch.float64).train_stream, []
    original = nn.Sequential(mlp(), nn.Dropout(0.3))

    def start():
        torch.manual_seed(0)
        return naive(copy.deepcopy(original), EWCPlugin(5.0, **options))

    for resumed in (False, True):
        strategy = start()
        strategy.train(stream[:2])
        if resumed:
            save_checkpoint(strategy, tmp_path / "checkpoint.pkl")
            strategy, _ = maybe_load_checkpoint(start(), tmp_path / "checkpoint.pkl")
        strategy.train(stream[2])
        (plugin,) = (p for p in strategy.plugins if isinstance(p, EWCPlugin))
        runs.append([weights(strategy.model), dict(plugin.importance), dict(plugin.penalty.anchor)])
        constant = plugin.penalty.constant
        assert (constant > 0) is (plugin.mode == "separate")
    for uninterrupted, resumed in zip(*runs, strict=True):
        assert same_bits(uninterrupted, resumed)


def unlabelled(experience):
    return TensorDataset(clusters(dtype=torch.float64)[0])


def plain(*tensors):
    """An experience of samples without task labels, and without anything but these fields."""
    data = AvalancheDataset([TensorDataset(*tensors)])
    return benchmark_from_datasets(train=[data]).train_stream[0]


def test_missing_labels_are_reported_before_training():
    """Where the data are a stream of the benchmark; those of a function are seen afterwards."""
    model = mlp()
    before = weights(model)
    with pytest.raises(ValueError, match=r"needs labels.*fisher='expected'"):
        naive(model, EWCPlugin(fisher="empirical")).train(plain(torch.randn(10, 8)))
    assert same_bits(weights(model), before)
    plugin = EWCPlugin(fisher="empirical", streams=unlabelled)
    with pytest.raises(ValueError, match=r"needs labels.*fisher='expected'"):
        naive(model, plugin).train(split(dtype=torch.float64).train_stream[0])
    assert plugin.importance is None


def test_a_task_label_is_no_label():
    """Unlabelled samples of a task are (x, task)."""
    task = DataAttribute([0] * 10, "targets_task_labels", use_in_getitem=True)
    data = AvalancheDataset([TensorDataset(torch.randn(10, 8))], data_attributes=[task])
    experience = benchmark_from_datasets(train=[data]).train_stream[0]
    with pytest.raises(ValueError, match=r"needs labels"):
        naive(mlp(), EWCPlugin(fisher="empirical")).train(experience)


@pytest.mark.parametrize("kind", ["expected", "sampled"])
def test_unlabelled_data_are_enough(kind):
    plugin, model = EWCPlugin(fisher=kind, streams=unlabelled), mlp()
    train(naive(model, plugin), split(dtype=torch.float64).train_stream[:1])
    x, y = clusters(dtype=torch.float64)
    equal(plugin.importance, naive_fisher(model, list(zip(x, weighing(kind, y), strict=True))))


@pytest.mark.parametrize("kind", KINDS)
def test_priming_with_pairs(kind):
    plugin, model = EWCPlugin(1e8, fisher=kind), mlp()
    x, y = clusters(dtype=torch.float64)
    own = plugin.prime(model, TensorDataset(x, y))
    equal(own, naive_fisher(model, list(zip(x, weighing(kind, y), strict=True))))
    before, marked = weights(model), {n: f > 1e-3 for n, f in own.items()}
    train(naive(model, plugin), split(dtype=torch.float64).train_stream[:1])
    for name, parameter in weights(model).items():
        assert marked[name].any()
        moved = (parameter - before[name])[marked[name]]
        assert moved.abs().max() < 1e-5


def test_regression_in_avalanche():
    """Vector targets without task labels; the wrong likelihood is pointed out before training."""
    experience = plain(torch.randn(40, 8), torch.randn(40, 3))
    model, plugin = mlp(3), EWCPlugin(likelihood="gaussian")
    naive(model, plugin, criterion=nn.MSELoss()).train(experience)
    assert plugin.importance["0.weight"].any()
    with pytest.warns(UserWarning, match=r"likelihood='gaussian'"):
        naive(model, EWCPlugin(), criterion=nn.MSELoss()).train(experience)


BAD = [
    {"fisher": "true"},
    {"likelihood": "poisson"},
    {"mode": "both"},
    {"decay": -0.1, "mode": "online"},
    {"decay": 0.5},
    {"lambda_reg": -1.0},
]


@pytest.mark.parametrize("options", BAD, ids=str)
def test_bad_options_fail_at_once(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        EWCPlugin(**options)
    with pytest.raises(ValueError, match="sampled"):
        EWCPlugin(fisher="sampled", likelihood="gaussian")


def test_the_constant_is_in_the_loss_that_is_logged():
    """The value of all penalties is at least that of their minimum, which is not 0."""
    plugin = EWCPlugin(10.0)
    task = Watch("after_forward", lambda strategy: float(strategy.criterion().detach()))
    whole = Watch("after_update", lambda strategy: float(strategy.loss.detach()))
    strategy = naive(mlp(), plugin, task, whole, epochs=1)
    train(strategy, split(dtype=torch.float64).train_stream)
    constant = 5.0 * plugin.penalty.constant
    assert constant > 0
    assert float(plugin.penalty.value()) > constant
    assert whole.seen[-1] > task.seen[-1]
