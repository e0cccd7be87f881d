"""What must hold for every regularisation plugin inside a real Avalanche strategy."""

import copy
import functools

import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from tiny_avalanche import (
    ESTIMATE,
    PLUGINS,
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

pytestmark = pytest.mark.parametrize("plugin_type", PLUGINS)
SGD = functools.partial(optim.SGD, lr=0.02, momentum=0.9)


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_without_strength_it_is_finetuning_bit_for_bit(plugin_type, step):
    """Also through dropout and BatchNorm, whose randomness and statistics Ω must not touch."""
    original = nn.Sequential(mlp(6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 6))
    plugin = plugin_type(0.0, step=step)
    runs = []
    for plugins in ([], [plugin]):
        model = copy.deepcopy(original)
        torch.manual_seed(0)  # once: what a measurement draws would show in the next experience
        naive(model, *plugins).train(split().train_stream)
        runs.append(model.state_dict())
    assert same_bits(*runs)
    assert plugin.tasks == 3


def test_the_first_experience_has_no_penalty(plugin_type):
    model = mlp()
    stream = split().train_stream[:1]
    expected = weights(train(naive(copy.deepcopy(model)), stream).model)
    assert same_bits(weights(train(naive(model, plugin_type(1e6)), stream).model), expected)


@pytest.mark.parametrize("make", [SGD, functools.partial(optim.Adam, lr=0.01)])
def test_a_huge_strength_freezes_what_is_marked_and_new_heads_still_learn(plugin_type, make):
    model = MultiHead()
    benchmark = split(task_labels=True)
    plugin = plugin_type(1e8)
    options = {"metrics": [accuracy_metrics(experience=True)], "epochs": 6}
    strategy = naive(model, plugin, optimizer=make(model.parameters()), **options)
    train(strategy, benchmark.train_stream[:1])
    anchor, omega = weights(model), dict(plugin.importance)
    train(strategy, benchmark.train_stream[1:2])
    after = weights(model)
    for name, marks in omega.items():
        marked = marks > 1.0
        assert torch.equal(after[name][marked], anchor[name][marked])
        moved = (after[name] - anchor[name])[marks > 1e-2]
        assert moved.abs().max() < 1e-5
    marked_features = omega["features.0.weight"] > 1.0
    assert marked_features.any()
    assert all(tensor.isfinite().all() for tensor in after.values())
    results = strategy.eval(benchmark.test_stream[1:2])
    assert results["Top1_Acc_Exp/eval_phase/test_stream/Task001/Exp001"] > 0.9


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_old_heads_keep_their_bits(plugin_type, step):
    """Although momentum still rolls, and weight decay and the penalty would pull."""
    model = MultiHead()
    stream = split(task_labels=True).train_stream
    optimizer = SGD(model.parameters(), weight_decay=0.1)
    strategy = naive(model, plugin_type(1e-3, step=step), optimizer=optimizer)
    heads = []
    for experience in stream:
        train(strategy, [experience])
        heads.append(weights(model.heads.classifiers[str(experience.task_label)]))
    for task, head in enumerate(heads):
        assert same_bits(weights(model.heads.classifiers[str(task)]), head)
    assert not same_bits(heads[0], heads[1])


def test_evaluation_in_between_changes_nothing(plugin_type):
    benchmark, model = split(), mlp()
    runs = []
    for evaluate in (False, True):
        plugin = plugin_type(0.5)
        strategy = naive(copy.deepcopy(model), plugin, eval_every=1 if evaluate else -1)
        for experience in benchmark.train_stream:
            streams = [benchmark.test_stream] if evaluate else []
            strategy.train(experience, eval_streams=streams, shuffle=False)
            if evaluate:
                strategy.eval(benchmark.test_stream)
        runs.append((weights(strategy.model), dict(plugin.importance)))
    assert same_bits(runs[0][0], runs[1][0])
    assert same_bits(runs[0][1], runs[1][1])


@pytest.mark.parametrize("accumulate", ["sum", "mean", 0.5])
@pytest.mark.parametrize("evaluate", [False, True])
def test_a_new_head_is_as_important_after_an_evaluation_as_without(
    plugin_type, evaluate, accumulate
):
    """An evaluation creates the heads of later tasks: that is no old importance to be averaged."""
    benchmark, model = split(task_labels=True), MultiHead()
    plugin = plugin_type(accumulate=accumulate)
    strategy = naive(model, plugin)
    for experience in benchmark.train_stream:
        if evaluate:
            strategy.eval(benchmark.test_stream)
        train(strategy, [experience])
    own = ESTIMATE[plugin_type](model, clusters()[0][40:], forward=lambda model, x: model(x, 2))
    name = "heads.classifiers.2.classifier.weight"
    assert own[name].any()
    torch.testing.assert_close(plugin.importance[name], own[name])


def test_metrics_see_the_loss_with_the_penalty(plugin_type):
    plugin = plugin_type(2.0)

    def by_hand(strategy):
        penalty = 0.0
        if plugin.penalty is not None:
            for name, parameter in strategy.model.named_parameters():
                difference = parameter - plugin.penalty.anchor[name]
                penalty += float((plugin.importance[name] * difference.square()).sum())
        return float(strategy.criterion()), penalty  # λ/2 = 1

    watch = Watch("after_forward", by_hand)
    strategy = naive(mlp(), plugin, watch, metrics=[loss_metrics(minibatch=True)])
    train(strategy, split().train_stream[:2])
    metrics = strategy.evaluator.get_all_metrics()
    _, logged = metrics["Loss_MB/train_phase/train_stream/Task000"]
    assert logged == pytest.approx([task + penalty for task, penalty in watch.seen], rel=1e-4)
    assert watch.seen[0][1] == 0
    assert watch.seen[-1][1] > 1e-3


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_a_loss_of_exactly_zero(plugin_type, step):
    model = mlp()
    plugin = plugin_type(1.0, step=step)
    strategy = naive(model, plugin, criterion=lambda output, y: 0 * output.sum())
    before = weights(model)
    train(strategy, split().train_stream)
    assert same_bits(weights(model), before)
    assert plugin.tasks == 3


def test_importance_known_beforehand_protects_from_the_first_experience(plugin_type):
    model = mlp()
    x, _ = clusters(seed=5)
    known = ESTIMATE[plugin_type](model, x)
    stream = split().train_stream[:1]
    before = weights(model)
    runs = []
    for primed in (False, True):
        plugin = plugin_type(1e8, initial=None if primed else known)
        own = copy.deepcopy(model)
        if primed:
            assert_close(plugin.prime(own, x), known)
        runs.append(weights(train(naive(own, plugin), stream).model))
        expected = {
            n: known[n] + plugin_measured
            for n, plugin_measured in ESTIMATE[plugin_type](own, clusters()[0][:20]).items()
        }
        assert_close(plugin.importance, expected)
    assert same_bits(*runs)
    for name, omega in known.items():
        assert torch.equal(runs[0][name][omega > 1], before[name][omega > 1])
    assert (known["0.weight"] > 1).any()


def test_priming_does_not_drop_what_was_known_initially(plugin_type):
    model = mlp()
    x, _ = clusters()
    first, second = (ESTIMATE[plugin_type](model, part) for part in (x[:30], x[30:]))
    plugin = plugin_type(initial=first)
    plugin.prime(model, x[30:])
    train(
        naive(model, plugin, criterion=lambda output, y: 0 * output.sum()), split().train_stream[:1]
    )
    last = ESTIMATE[plugin_type](model, x[:20])
    assert_close(plugin.importance, {n: first[n] + second[n] + last[n] for n in first})


@pytest.mark.parametrize("accumulate", ["sum", "mean", 0.25])
def test_accumulation_is_what_it_says(plugin_type, accumulate):
    plugin = plugin_type(0.1, accumulate=accumulate)

    def estimate(strategy):
        return ESTIMATE[plugin_type](strategy.model, strategy.experience.dataset.eval())

    measured = Watch("after_training_exp", estimate)
    train(naive(mlp(), plugin, measured), split().train_stream)
    a, b, c = measured.seen
    expected = {
        "sum": lambda name: a[name] + b[name] + c[name],
        "mean": lambda name: (a[name] + b[name] + c[name]) / 3,
        0.25: lambda name: 0.25 * (0.25 * a[name] + 0.75 * b[name]) + 0.75 * c[name],
    }[accumulate]
    assert_close(plugin.importance, {name: expected(name) for name in a})
    assert all(bool((a[n] != c[n]).any()) for n in a)


def test_the_anchor_is_the_latest_solution(plugin_type):
    plugin = plugin_type(0.1)
    solutions = Watch("after_training_exp", lambda strategy: weights(strategy.model))
    strategy = naive(mlp(), plugin, solutions)
    for experience in split().train_stream:
        train(strategy, [experience])
        assert same_bits(plugin.penalty.anchor, solutions.seen[-1])
