"""Incremental moment matching in real strategies: what is kept, and what is merged of it."""

import copy

import pytest
import torch
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

from avalanche_mas.evaluation import method_memory
from avalanche_mas.plugins import IMMPlugin


def solutions():
    """A plugin that records all parameters at the end of each experience."""
    return Watch("after_training_exp", lambda strategy: weights(strategy.model))


def fisher_by_hand(model, x, forward):
    """E over x and over y ~ p(y|x) of (∂ log p(y|x)/∂θ)², one sample and one class at a time."""
    model = copy.deepcopy(model).eval()
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for sample in x:
        log_p = forward(model, sample[None]).log_softmax(dim=1)[0]
        for y in range(len(log_p)):
            model.zero_grad()
            log_p[y].backward(retain_graph=True)
            for name, p in parameters.items():
                if p.grad is not None:
                    total[name] += log_p[y].detach().exp() * p.grad**2 / len(x)
    return total


def test_mean_is_the_average_to_the_bit_and_heads_are_not_merged():
    model, plugin, seen = MultiHead(), IMMPlugin(0.5), solutions()
    strategy = naive(model, plugin, seen)
    train(strategy, split(task_labels=True).train_stream[:2])
    a, b = seen.seen
    merged, now = weights(plugin.merged()), weights(model)
    for name in ("features.0.weight", "features.0.bias"):
        assert torch.equal(merged[name], (a[name] + b[name]) / 2)
        assert not torch.equal(a[name], b[name])
    for task, own in enumerate((a, b)):
        for part in ("weight", "bias"):
            name = f"heads.classifiers.{task}.classifier.{part}"
            assert torch.equal(merged[name], own[name])
            assert torch.equal(merged[name], now[name])


def test_mode_is_the_papers_formula_with_the_fisher_of_each_task():
    torch.set_default_dtype(torch.float64)
    model, plugin = MultiHead(), IMMPlugin(0.5)
    x, _ = clusters(dtype=torch.float64)

    def measured(strategy):
        task = strategy.experience.task_label
        data = x[20 * task : 20 * (task + 1)]
        return fisher_by_hand(strategy.model, data, lambda m, x: m(x, task))

    seen, fishers = solutions(), Watch("after_training_exp", measured)
    train(naive(model, plugin, seen, fishers), split(task_labels=True, dtype=x.dtype).train_stream)
    merged = weights(plugin.merged("mode", ratios=[0.5, 0.3, 0.2]))
    for task, fisher in enumerate(fishers.seen):
        own = {n: f for n, f in fisher.items() if "features" in n or f"classifiers.{task}." in n}
        assert_close(plugin.fishers[task], own, rtol=1e-10, atol=1e-14)
    for name in ("features.0.weight", "features.0.bias"):
        F = [a * f[name] for a, f in zip((0.5, 0.3, 0.2), fishers.seen, strict=True)]
        numerator = sum(f * theta[name] for f, theta in zip(F, seen.seen, strict=True))
        informed = sum(F) > 0
        assert informed.any()
        expected = (numerator / sum(F))[informed]
        torch.testing.assert_close(merged[name][informed], expected, rtol=1e-9, atol=1e-12)
    for task, own in enumerate(seen.seen):
        name = f"heads.classifiers.{task}.classifier.weight"
        assert torch.equal(merged[name], own[name])


def test_the_first_tasks_merge_as_they_did_when_they_were_all():
    plugin, at_the_time = IMMPlugin(0.1), []
    model = mlp()
    strategy = naive(model, plugin)
    for experience in split().train_stream:
        train(strategy, [experience])
        at_the_time.append([weights(plugin.merged(mode)) for mode in ("mean", "mode")])
    for task, merged in enumerate(at_the_time):
        for expected, mode in zip(merged, ("mean", "mode"), strict=True):
            assert same_bits(weights(plugin.merged(mode, upto=task + 1)), expected)
    for first in at_the_time[0]:
        assert same_bits(first, plugin.solutions[0])
    assert not same_bits(*at_the_time[2])


def test_training_goes_on_from_the_unmerged_model():
    benchmark, original = split(), nn.Sequential(mlp(6), nn.BatchNorm1d(6), nn.Dropout(0.2))
    runs = []
    for merge in (False, True):
        plugin, model = IMMPlugin(0.1), copy.deepcopy(original)
        strategy = naive(model, plugin)
        for experience in benchmark.train_stream:
            train(strategy, [experience])
            for mode in ("mean", "mode") if merge else ():
                before = weights(model)
                strategy.model = plugin.merged(mode)
                strategy.eval(benchmark.test_stream)
                for parameter in strategy.model.parameters():
                    parameter.data.fill_(torch.nan)
                strategy.model = model
                assert same_bits(weights(model), before)
        runs.append(model.state_dict() | weights(plugin.merged("mode")))
    assert same_bits(*runs)


def test_a_pretrained_network_counts_as_a_task():
    """As if the task that it was trained on had been the first."""
    first, second, _ = split().train_stream
    model, plugin, primed = mlp(), IMMPlugin(0.5), IMMPlugin(0.5)
    train(naive(model, plugin), [first])
    pretrained = copy.deepcopy(model)
    primed.prime(pretrained, first.dataset)
    for own, other in zip(
        (plugin.solutions, plugin.fishers), (primed.solutions, primed.fishers), strict=True
    ):
        assert same_bits(own[0], other[0])
    train(naive(pretrained, primed), [second])
    assert same_bits(weights(primed.merged("mean", upto=1)), weights(model))
    for name, merged in weights(primed.merged()).items():
        assert torch.equal(merged, (weights(model)[name] + weights(pretrained)[name]) / 2)
    distance = sum((weights(pretrained)[n] - p).norm() for n, p in weights(model).items())
    free = copy.deepcopy(model)
    train(naive(free), [second])
    assert 0 < distance < sum((weights(free)[n] - p).norm() for n, p in weights(model).items())


def test_merging_forgets_less_than_training_on():
    benchmark, model, plugin = split(), mlp(), IMMPlugin(0.02)
    strategy = naive(model, plugin, optimizer=optim.SGD(model.parameters(), lr=0.05), epochs=10)
    train(strategy, benchmark.train_stream)
    x, y = clusters(seed=1)

    def accuracy(model):
        return (model(x).argmax(dim=1) == y).double().mean()

    assert accuracy(plugin.merged("mean")) > accuracy(model) + 0.1
    assert accuracy(plugin.merged("mode")) > accuracy(model) + 0.1


@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_the_penalty_is_the_distance_from_the_last_solution(step):
    """A plain loop whose loss has (λ/2)‖θ−θ_{t−1}‖² over what was trained: not the new head."""
    torch.set_default_dtype(torch.float64)
    strength, lr = 3.0, 0.02
    model = MultiHead()
    start = Watch("before_training_exp", lambda strategy: copy.deepcopy(strategy.model))
    batches = Watch("before_update", lambda strategy: [t.clone() for t in strategy.mbatch])
    optimizer = optim.SGD(model.parameters(), lr=lr)
    strategy = naive(model, IMMPlugin(strength, step=step), start, batches, optimizer=optimizer)
    train(strategy, split(task_labels=True, dtype=torch.float64).train_stream)
    twin, solution = start.seen[2], weights(start.seen[2].features)
    for x, y, tasks in batches.seen[-len(batches.seen) // 3 :]:
        twin.zero_grad()
        nn.functional.cross_entropy(twin(x, tasks), y).backward()
        with torch.no_grad():
            for p in twin.parameters():
                p.sub_(0 if p.grad is None else lr * p.grad)
            for n, p in twin.features.named_parameters():
                if step == "gradient":  # at θ before the step, which is undone by adding lr · grad
                    p.sub_(lr * strength * (p + lr * p.grad - solution[n]))
                else:
                    p.copy_(solution[n] + (p - solution[n]) / (1 + lr * strength))
    assert_close(weights(model), weights(twin), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_without_strength_it_is_finetuning_bit_for_bit(step):
    original = nn.Sequential(mlp(6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 6))
    runs = []
    for plugins in ([], [IMMPlugin(0.0, step=step)], [IMMPlugin(0.0, step=step, fisher="sampled")]):
        model = copy.deepcopy(original)
        torch.manual_seed(0)
        naive(model, *plugins).train(split().train_stream)
        runs.append(model.state_dict())
    assert same_bits(runs[0], runs[1])
    assert same_bits(runs[0], runs[2])


def test_a_huge_strength_freezes_what_was_trained_but_no_new_head():
    model, seen = MultiHead(), solutions()
    train(naive(model, IMMPlugin(1e8), seen), split(task_labels=True).train_stream[:2])
    first, second = seen.seen
    for name in ("features.0.weight", "features.0.bias"):
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=1e-6)
    head = model.heads.classifiers["1"].classifier
    x, y = clusters()
    with torch.no_grad():
        answers = head(model.features(x[20:40])).argmax(dim=1)
    assert (answers == y[20:40] - 2).double().mean() > 0.9


@pytest.mark.parametrize("fisher", ["expected", None])
def test_every_task_takes_its_own_memory(fisher):
    """What it trained, once for θ_t and once for F_t; besides, Ω = 1 for each parameter once."""
    model, plugin = MultiHead(), IMMPlugin(0.1, fisher=fisher)
    strategy = naive(model, plugin)
    body, head = (8 + 1) * 16, (16 + 1) * 2
    for tasks, experience in enumerate(split(task_labels=True).train_stream, start=1):
        train(strategy, [experience])
        kept = tasks * (body + head) * (1 if fisher is None else 2)
        old_anchors = head * (tasks - 1)  # of heads that this task did not train
        omega = body + tasks * head
        assert method_memory(strategy) == 4 * (kept + old_anchors + omega)


def test_errors_name_what_is_wrong():
    plugin, stream = IMMPlugin(0.1, fisher=None), split().train_stream
    with pytest.raises(RuntimeError, match="no task has ended"):
        plugin.merged()
    train(naive(mlp(), plugin), stream[:2])
    for arguments, message in [
        (("median",), "'mean' or 'mode', got 'median'"),
        (("mode",), "needs the Fisher information"),
        (("mean", 0), "between 1 and 2 tasks, got 0"),
        (("mean", 3), "between 1 and 2 tasks, got 3"),
        (("mean", -1), "got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            plugin.merged(*arguments)
    with pytest.raises(ValueError, match="2 ratios for 1 tasks"):
        plugin.merged(upto=1, ratios=[0.5, 0.5])
    for options in (
        {"lambda_reg": -1.0},
        {"fisher": "empirical"},
        {"fisher": True},
        {"likelihood": "poisson"},
        {"fisher": "sampled", "likelihood": "gaussian"},
        {"step": "newton"},
        {"streams": []},
        {"batch_size": 0},
        {"max_samples": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            IMMPlugin(**options)
    model = mlp()
    before = weights(model)
    with pytest.raises(ValueError, match="no stream 'vaild'"):
        train(naive(model, IMMPlugin(streams="vaild")), stream[:1])
    assert same_bits(weights(model), before)


def test_a_task_whose_fisher_is_not_finite_is_not_half_kept():
    model, plugin, stream = mlp(), IMMPlugin(0.1), split().train_stream
    strategy = naive(model, plugin)
    train(strategy, stream[:1])
    diverge = Watch("after_training_epoch", lambda s: model[0].weight.data.fill_(torch.nan))
    strategy.plugins.append(diverge)
    with pytest.raises(ValueError, match="not finite"):
        train(strategy, stream[1:2])
    assert plugin.tasks == len(plugin.solutions) == len(plugin.fishers) == 1
