"""Head-only warm-up: only what is new is trained, and nothing else moves by a bit."""

import copy

import pytest
import torch
from avalanche.evaluation.metrics import loss_metrics
from distilled import Growing, Noisy, assert_resumes, state, unequal
from tiny_avalanche import FEATURES, MultiHead, Watch, mlp, naive, same_bits, split, train, weights
from torch import nn, optim

from avalanche_mas import MASPlugin
from avalanche_mas.plugins import EBLLPlugin, LwFPlugin
from avalanche_mas.plugins.warmup import HeadWarmupPlugin, warm_up

MAKE = {
    "alone": lambda epochs: HeadWarmupPlugin(epochs),
    "lwf": lambda epochs: LwFPlugin(warmup_epochs=epochs),
    "ebll": lambda epochs: EBLLPlugin(warmup_epochs=epochs, autoencoder_epochs=1),
}
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: optim.AdamW(p, lr=0.02),
}


def head_of(task):
    return f"heads.classifiers.{task}."


def copied(optimizer, model):
    """The optimizer's state by the parameters' names."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[p]} {key}": torch.as_tensor(value).clone()
        for p, held in optimizer.state.items()
        for key, value in held.items()
        if value is not None
    }


@pytest.mark.parametrize("evaluate", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_only_the_new_head_is_trained(make, optimizer, evaluate):
    """BatchNorm, optimizer state and old heads keep their bits; an evaluation may make heads."""

    def look(strategy):
        held = copied(strategy.optimizer, strategy.model)
        return state(strategy.model), held, [m.training for m in strategy.model.modules()]

    before, after = Watch("before_training_exp", look), Watch("before_training_epoch", look)
    benchmark, model = split(task_labels=True), Noisy()
    plugins = before, make(3), after
    strategy = naive(model, *plugins, optimizer=optimizer(model.parameters()), epochs=1)
    for task, experience in enumerate(benchmark.train_stream):
        if evaluate:
            strategy.eval(benchmark.test_stream)
        train(strategy, [experience])
        moved = {
            n for n, t in before.seen[-1][0].items() if not torch.equal(t, after.seen[-1][0][n])
        }
        own = {f"{head_of(task)}classifier.{part}" for part in ("weight", "bias")}
        assert moved == (own if task else set())
        old = before.seen[-1][1]
        assert same_bits(old, {name: after.seen[-1][1][name] for name in old})
        assert before.seen[-1][2] == after.seen[-1][2]
        assert all(p.requires_grad for p in model.parameters())


def test_it_is_training_with_everything_else_frozen():
    """The head's weights are those of a plain loop over the same mini-batches."""
    model, (first, second) = MultiHead(), unequal()[:2]
    strategy = naive(model, HeadWarmupPlugin(2))
    train(strategy, [first])
    expected = {}

    def by_hand(strategy):
        twin = copy.deepcopy(strategy.model)
        generator = torch.get_rng_state()
        head = twin.heads.classifiers["1"]
        optimizer = optim.SGD(head.parameters(), lr=0.02, momentum=0.9)
        for _ in range(2):
            for x, y, _ in strategy.dataloader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(twin(x, 1), y).backward()
                optimizer.step()
        torch.set_rng_state(generator)
        expected.update(weights(twin))

    strategy.plugins.insert(0, Watch("before_training_exp", by_hand))
    after = Watch("before_training_epoch", lambda strategy: weights(strategy.model))
    strategy.plugins.append(after)
    train(strategy, [second])
    assert same_bits(after.seen[0], expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_only_the_new_units_of_a_growing_head(optimizer):
    model = Growing()

    def look(strategy):
        return weights(strategy.model)

    def first_moment(strategy):
        held = strategy.optimizer.state.get(model.head.classifier.weight, {})
        return held["exp_avg"].clone() if "exp_avg" in held else None

    before, after = Watch("before_training_exp", look), Watch("before_training_epoch", look)
    moments = Watch("before_training_epoch", first_moment)
    plugins = before, HeadWarmupPlugin(2), after, moments
    strategy = naive(model, *plugins, optimizer=optimizer(model.parameters()), epochs=1)
    train(strategy, split().train_stream)
    for task in (1, 2):
        old, new = before.seen[task], after.seen[task]
        assert same_bits(
            {n: t for n, t in old.items() if n.startswith("features")},
            {n: t for n, t in new.items() if n.startswith("features")},
        )
        for name in ("head.classifier.weight", "head.classifier.bias"):
            assert torch.equal(old[name][: 2 * task], new[name][: 2 * task])
            assert (old[name][2 * task :] != new[name][2 * task :]).all()
        if (moment := moments.seen[task]) is not None:  # nor will old units move by momentum
            assert not moment[: 2 * task].any()
            assert moment[2 * task :].any()


@pytest.mark.parametrize("plugin", [HeadWarmupPlugin(0), HeadWarmupPlugin(3)])
def test_without_new_parameters_it_is_finetuning(plugin):
    model, runs = mlp(), []
    for plugins in ([], [plugin]):
        runs.append(
            weights(train(naive(copy.deepcopy(model), *plugins), split().train_stream).model)
        )
    assert same_bits(*runs)


def test_new_heads_that_have_no_part_in_the_task():
    """The first task comes again, when an evaluation has made the heads of all others."""
    benchmark, model = split(task_labels=True), MultiHead()
    strategy = naive(model, HeadWarmupPlugin(2))
    first = benchmark.train_stream[0]
    train(strategy, [first])
    strategy.eval(benchmark.test_stream)
    before = weights(model.heads.classifiers["2"])
    train(strategy, [first])
    assert same_bits(weights(model.heads.classifiers["2"]), before)


def test_a_layer_that_is_freed_later_is_not_new():
    model = MultiHead()
    model.features.requires_grad_(False)
    plugin = HeadWarmupPlugin(2)
    strategy = naive(model, plugin)
    first, second, _ = split(task_labels=True).train_stream
    train(strategy, [first])
    model.features.requires_grad_(True)
    new = Watch("before_training_exp", lambda strategy: set(plugin.new_parameters(model)))
    strategy.plugins.insert(0, new)
    train(strategy, [second])
    assert new.seen == [{f"{head_of(1)}classifier.weight", f"{head_of(1)}classifier.bias"}]


class Interrupted(Exception):
    pass


def test_an_exception_leaves_modes_and_requires_grad_as_they_were():
    model = Noisy()
    strategy = naive(model, HeadWarmupPlugin(1))
    first, second, _ = split(task_labels=True).train_stream
    train(strategy, [first])
    model.features[1].eval()
    model.features[0].bias.requires_grad_(False)
    modes = {module: module.training for module in model.features.modules()}
    before = weights(model.features)

    def interrupt(output, y):
        raise Interrupted

    strategy._criterion = interrupt
    # train() sets every module to train mode: the user's choice comes in a callback
    strategy.plugins.insert(0, Watch("before_training_exp", lambda s: model.features[1].eval()))
    with pytest.raises(Interrupted):
        train(strategy, [second])
    assert {module: module.training for module in model.features.modules()} == modes
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"features.0.bias"}
    assert same_bits(weights(model.features), before)


class Deep(nn.Module):
    """A new head with BatchNorm and dropout."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))
        layers = nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 6)
        self.head = nn.Sequential(*layers)

    def forward(self, x):
        return self.head(self.body(x))


def test_modules_inside_a_new_head_are_in_train_mode():
    model = Deep()
    seen = []
    new = {f"head.{name}": None for name, _ in model.head.named_parameters()}

    def criterion(output, y):
        seen.append({name for name, module in model.named_modules() if module.training})
        return nn.functional.cross_entropy(output, y)

    warm = Watch("before_training_exp", lambda strategy: warm_up(strategy, 1, new))
    before = state(model.body)
    after = Watch("before_training_epoch", lambda strategy: state(model.body))
    train(naive(model, warm, after, criterion=criterion), split().train_stream[:1])
    assert seen[0] == {"head", "head.0", "head.1", "head.2", "head.3"}
    assert same_bits(after.seen[0], before)


def test_beside_a_penalty_and_metrics():
    """No penalty takes part in it, and no metric or counter sees it."""
    counts = []
    for plugins in (
        [MASPlugin()],
        [MASPlugin(), HeadWarmupPlugin(4)],
        [HeadWarmupPlugin(4), MASPlugin()],
    ):
        strategy = naive(MultiHead(), *plugins, metrics=[loss_metrics(minibatch=True)])
        train(strategy, split(task_labels=True).train_stream)
        curves = strategy.evaluator.get_all_metrics()
        logged = sum(len(v[1]) for n, v in curves.items() if n.startswith("Loss_MB"))
        counts.append((strategy.clock.train_iterations, logged))
    assert len(set(counts)) == 1


def test_checkpoint_and_resume(tmp_path):
    assert_resumes(MultiHead, lambda: HeadWarmupPlugin(2), tmp_path, task_labels=True)


def test_a_negative_number_of_epochs():
    with pytest.raises(ValueError, match="epochs must be at least 0, got -1"):
        LwFPlugin(warmup_epochs=-1)
