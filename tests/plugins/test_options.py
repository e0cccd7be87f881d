"""The plugins' options, the optimizers they choose a step for, and other plugins beside them."""

import warnings

import pytest
import torch
from avalanche.benchmarks.scenarios.online import (
    split_continuous_linear_decay_stream,
    split_online_stream,
)
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    LRSchedulerPlugin,
    ReplayPlugin,
)
from tiny_avalanche import (
    FEATURES,
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
from torch import optim
from torch.utils.data import TensorDataset

from avalanche_mas import EWCPlugin, IMMPlugin, LocalMASPlugin, MASPlugin, estimate_importance
from avalanche_mas.importance import batches

both = pytest.mark.parametrize("plugin_type", PLUGINS)

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.02, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.01),
}


@both
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_auto_is_proximal_where_the_optimizer_is_understood(plugin_type, name):
    stream = split().train_stream[:2]
    chosen = "proximal" if name in ("SGD", "Adam", "AdamW") else "gradient"
    runs = {}
    for step in ("auto", "gradient", chosen):
        torch.manual_seed(0)
        model = mlp()
        optimizer = OPTIMIZERS[name](model.parameters())
        runs[step] = weights(
            train(naive(model, plugin_type(0.5, step=step), optimizer=optimizer), stream).model
        )
    assert same_bits(runs["auto"], runs[chosen])
    assert same_bits(runs["auto"], runs["gradient"]) is (chosen == "gradient")


@both
def test_a_step_that_the_optimizer_does_not_allow_fails_before_training(plugin_type):
    model = mlp()
    before = weights(model)
    strategy = naive(
        model, plugin_type(step="proximal"), optimizer=optim.RMSprop(model.parameters())
    )
    with pytest.raises(TypeError, match=r"not for RMSprop: use step='gradient'"):
        train(strategy, split().train_stream[:1])
    assert same_bits(weights(model), before)


@both
def test_a_gradient_step_that_will_diverge_is_announced(plugin_type):
    stream = split().train_stream
    strategy = naive(mlp(), plugin_type(1e4, step="gradient"))
    train(strategy, stream[:1])
    strategy.train_epochs = 0  # the announcement is enough
    with pytest.warns(UserWarning, match=r"will diverge.*step='proximal'"):
        train(strategy, stream[1:2])
    for quiet in (plugin_type(1e4), plugin_type(1e-4, step="gradient")):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*diverge")
            train(naive(mlp(), quiet), stream)


BAD = [
    {"lambda_reg": -1.0},
    {"lambda_reg": float("nan")},
    {"lambda_reg": float("inf")},
    {"accumulate": "product"},
    {"accumulate": 1.0},
    {"accumulate": -0.5},
    {"step": "newton"},
    {"streams": []},
    {"streams": ["train", "train"]},
    {"batch_size": 0},
    {"batch_size": -3},
    {"max_samples": 0},
    {"num_workers": -1},
]


@both
@pytest.mark.parametrize("options", BAD, ids=str)
def test_bad_options_fail_at_once_and_are_named(plugin_type, options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        plugin_type(**options)


@pytest.mark.parametrize(
    "options",
    [{"output": "squares"}, {"engine": "magic"}, {"engine": "batch", "output": "vector"}],
    ids=str,
)
def test_bad_options_of_global_mas_fail_at_once(options):
    """Not after the first experience has been trained for hours."""
    with pytest.raises(ValueError, match=r"engine|output"):
        MASPlugin(**options)


@both
def test_streams_of_a_wrong_type(plugin_type):
    with pytest.raises(TypeError, match=r"streams must be a stream name.*got \[1, 2\]"):
        plugin_type(streams=[1, 2])


@pytest.mark.parametrize("arguments", [((1.5, 0.25), {}), ((1.5,), {"alpha": 0.25})], ids=str)
def test_avalanches_signature_is_translated_aloud(arguments):
    args, kwargs = arguments
    with pytest.warns(UserWarning, match=r"lambda_reg=3\.0.*accumulate=0\.25") as caught:
        plugin = MASPlugin(*args, **kwargs)
    assert caught[0].filename == __file__
    assert (plugin.lambda_reg, plugin.accumulate) == (3.0, 0.25)


def test_the_own_signature_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MASPlugin(1.5).lambda_reg == 1.5


@pytest.mark.parametrize("output", ["norm", "vector"])
def test_output_and_engine_reach_the_estimate(output):
    plugin = MASPlugin(output=output, engine="loop", batch_size=3)
    experience = split().train_stream[0]
    strategy = train(naive(mlp(), plugin), [experience])
    own = estimate_importance(strategy.model, experience.dataset, output=output)
    assert_close(plugin.importance, own)


def test_the_approximation_of_others_is_there_for_comparison():
    plugin = MASPlugin(engine="batch", batch_size=20)
    experience = split().train_stream[0]
    strategy = train(naive(mlp(), plugin), [experience])
    x = clusters()[0][:20]
    whole = estimate_importance(strategy.model, x, engine="batch", batch_size=20)
    assert_close(plugin.importance, whole)
    exact = estimate_importance(strategy.model, x)
    assert plugin.importance["0.weight"].sum() < 0.98 * exact["0.weight"].sum()


@both
def test_the_schedule_of_the_learning_rate_is_followed(plugin_type):
    """η is that of the step just taken: a hand-written proximal step gives the same weights."""
    model, plugin = mlp(), plugin_type(2.0)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scheduler = LRSchedulerPlugin(
        optim.lr_scheduler.ExponentialLR(optimizer, 0.7), step_granularity="iteration"
    )
    strategy = naive(model, scheduler, plugin, optimizer=optimizer)
    stream = split().train_stream
    train(strategy, stream[:1])
    anchor, omega = weights(model), dict(plugin.importance)
    steps = []

    def before(strategy):
        lr = strategy.optimizer.param_groups[0]["lr"]
        free = {n: p.detach() - lr * p.grad for n, p in model.named_parameters()}
        steps.append(lr)
        return {n: anchor[n] + (free[n] - anchor[n]) / (1 + lr * 2.0 * omega[n]) for n in free}

    expected = Watch("before_update", before)
    actual = Watch("after_training_iteration", lambda strategy: weights(model))
    strategy.plugins += [expected, actual]
    train(strategy, stream[1:2])
    assert len(actual.seen) == 8
    for ours, by_hand in zip(actual.seen, expected.seen, strict=True):
        assert_close(ours, by_hand, rtol=1e-4, atol=1e-6)
    assert steps[-1] < 0.2 * steps[0]


@both
def test_groups_with_other_learning_rates(plugin_type):
    """The group that stands still stays, the other is pulled back by its own η."""
    model, plugin = mlp(), plugin_type(1e8)
    groups = [
        {"params": model[0].parameters(), "lr": 0.0},
        {"params": model[2].parameters(), "lr": 0.05, "momentum": 0.5},
    ]
    strategy = naive(model, plugin, optimizer=optim.SGD(groups, lr=1.0))
    before = weights(model)
    train(strategy, split().train_stream[:2])
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[2].weight, before["2.weight"])
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@both
def test_together_with_replay(plugin_type):
    """Replayed samples use old heads, so these are pulled too; Ω is of the new data alone."""
    model, plugin = MultiHead(), plugin_type(1e8)
    strategy = naive(model, plugin, ReplayPlugin(mem_size=20))
    stream = split(task_labels=True).train_stream
    train(strategy, stream[:1])
    head = "heads.classifiers.0.classifier.weight"
    marked, before = plugin.importance[head] > 1, weights(model)[head]
    omega = plugin.importance[head]
    train(strategy, stream[1:2])
    after = weights(model)[head]
    assert torch.equal(after[marked], before[marked])
    assert not torch.equal(after, before)
    assert torch.equal(plugin.importance[head], omega)
    assert plugin.importance.samples == 40


@both
def test_together_with_early_stopping(plugin_type):
    """θ* is the best state, which the other plugin brings back before the end."""
    plugin = plugin_type(0.1)
    stopping = EarlyStoppingPlugin(patience=1, val_stream_name="test_stream", margin=2.0)
    benchmark = split()
    strategy = naive(
        mlp(), plugin, stopping, metrics=[accuracy_metrics(stream=True)], epochs=9, eval_every=1
    )
    for experience in benchmark.train_stream[:2]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strategy.train(experience, eval_streams=[benchmark.test_stream])
        assert strategy.clock.train_exp_epochs < 9
        assert same_bits(plugin.penalty.anchor, stopping.best_state)
    assert plugin.tasks == 2


@both
@pytest.mark.parametrize("size", [7, 10])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_online_stream_is_measured_once_per_task(plugin_type, size, drop_last):
    """Sub-experiences of 7, where the last is short, and of 10, which divides a task's 20."""
    plugin = plugin_type(0.1)
    model = mlp()
    benchmark = split()
    strategy = naive(model, plugin, epochs=1)
    for experience in split_online_stream(benchmark.train_stream, size, drop_last=drop_last):
        strategy.train(experience)
    assert plugin.tasks == 3
    assert plugin.importance.samples == 60  # all of each task, not its last part


@both
def test_a_stream_without_boundaries_is_refused_in_words(plugin_type):
    """Nobody can say there when a task ends, nor which samples are a task's."""
    stream = split_continuous_linear_decay_stream(split().train_stream, 10, 4, 0.5, shuffle=True)
    with pytest.raises(ValueError, match="experience"):
        naive(mlp(), plugin_type(), epochs=1).train(next(iter(stream)))


@pytest.mark.parametrize("make", [MASPlugin, LocalMASPlugin, EWCPlugin, IMMPlugin])
def test_priming_reads_as_it_is_asked_to(make, monkeypatch):
    """The batch size given to prime, else the plugin's own; the plugin's loader processes."""
    read = []

    class Recorded(batches.DataLoader):
        def __init__(self, data, batch_size, **options):
            read.append((batch_size, options["num_workers"]))
            super().__init__(data, batch_size, **options | {"num_workers": 0})

    monkeypatch.setattr(batches, "DataLoader", Recorded)
    data = TensorDataset(torch.randn(12, FEATURES))
    make(batch_size=8, num_workers=2).prime(mlp(), data, batch_size=5)
    make(batch_size=8).prime(mlp(), data)
    make(num_workers=1).prime(mlp(), data)
    assert read == [(5, 2), (8, 0), (64, 1)]
