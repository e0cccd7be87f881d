"""EBLLPlugin: the paper's loss, its autoencoder, and what must stay as in LwF and finetuning."""

import copy

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, with_task_labels
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.benchmarks.utils import concat_datasets
from distilled import SIZES, Growing, Noisy, assert_resumes, state, unequal
from tiny_avalanche import (
    MultiHead,
    Watch,
    clusters,
    dataset,
    mlp,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn, optim

from avalanche_mas.plugins import EBLLPlugin, LwFPlugin
from avalanche_mas.plugins.ebll.autoencoder import train_encoder

TARGETS = ["recorded", "recomputed"]
both = pytest.mark.parametrize("targets", TARGETS)


def ebll(*arguments, epochs=3, **options):
    """With a short training of the autoencoder."""
    return EBLLPlugin(*arguments, autoencoder_epochs=epochs, **options)


@both
def test_loss_and_gradient_are_the_papers(targets):
    """Written down from the equations, in float64, with heads of 2, 4 and 3 classes."""
    torch.set_default_dtype(torch.float64)
    plugin = ebll(0.7, 3.0, 0.9, targets=targets, code_size=3)
    teachers = Watch("before_training_exp", lambda strategy: copy.deepcopy(strategy.model).eval())
    codes = []

    def by_hand(strategy):
        student, teacher = copy.deepcopy(strategy.model), teachers.seen[-1]
        task, x, y = strategy.experience.current_experience, strategy.mb_x, strategy.mb_y
        loss = nn.functional.cross_entropy(student(x, task), y)
        for t, (low, high) in enumerate(SIZES[:task]):
            p, q = (m(x, t)[:, : high - low].div(3.0).softmax(1) for m in (teacher, student))
            loss = loss - 0.7 * (p.detach() * q.log()).sum() / len(x)
            w, b = plugin.encoders[t].weight, plugin.encoders[t].bias
            f, g = (1 / (1 + (-(m.features(x) @ w.T + b)).exp()) for m in (student, teacher))
            codes.append(float(((f - g.detach()) ** 2).sum().detach()))
            loss = loss + 0.9 / 2 * ((f - g.detach()) ** 2).sum() / len(x)
        student.zero_grad()
        loss.backward()
        tolerance = {"rtol": 1e-10, "atol": 1e-12}
        torch.testing.assert_close(strategy.loss.squeeze(), loss, **tolerance)
        for p, q in zip(strategy.model.parameters(), student.parameters(), strict=True):
            if p.grad is not None or q.grad is not None:
                torch.testing.assert_close(p.grad, q.grad, **tolerance)

    watch = Watch("before_update", by_hand)
    model = MultiHead(initial_out_features=5)
    train(naive(model, teachers, plugin, watch, epochs=1), unequal(torch.float64))
    assert max(codes) > 1e-6
    assert [tuple(encoder.weight.shape) for encoder in plugin.encoders] == [(3, 16)] * 3


def naive_encoder(features, y, head, code_size, reconstruction, epochs, lr, batch_size, start):
    """Section 3 of the paper with autograd's plain ``backward``; Adadelta from its definition."""
    w1, b1, w2, b2 = (tensor.clone().requires_grad_() for tensor in start)
    parameters = [w1, b1, w2, b2]
    means = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    generator = torch.Generator().manual_seed(0)
    for shape in (w1.shape, w2.shape):  # the initial weights were drawn first
        nn.init.xavier_uniform_(torch.empty(shape), generator=generator)
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=generator).split(batch_size):
            f = features[rows]
            r = torch.sigmoid(f @ w1.T + b1) @ w2.T + b2
            loss = nn.functional.cross_entropy(head(r), y[rows])
            loss = loss + reconstruction * ((r - f) ** 2).sum() / f.numel()
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for p, g, (square, step) in zip(parameters, gradients, means, strict=True):
                    square.mul_(0.9).add_(0.1 * g * g)
                    delta = g * (step + 1e-6).sqrt() / (square + 1e-6).sqrt()
                    step.mul_(0.9).add_(0.1 * delta * delta)
                    p -= lr * delta
    return w1, b1


def test_the_autoencoder_is_the_papers():
    torch.set_default_dtype(torch.float64)
    model = MultiHead()
    experience = split(task_labels=True, dtype=torch.float64).train_stream[0]
    options = {"code_size": 4, "reconstruction": 0.3, "batch_size": 6}
    plugin = EBLLPlugin(
        code_size=4,
        reconstruction=0.3,
        autoencoder_epochs=4,
        autoencoder_lr=0.5,
        autoencoder_batch_size=6,
    )
    train(naive(model, plugin), [experience])
    generator = torch.Generator().manual_seed(0)
    start = []
    for shape in ((4, 16), (16, 4)):
        start.append(nn.init.xavier_uniform_(torch.empty(shape), generator=generator))
        start.append(torch.zeros(shape[0]))
    x, y = clusters(dtype=torch.float64)
    with torch.no_grad():
        features = model.features(x[:20])
    weight, bias = naive_encoder(
        features, y[:20], lambda r: model.heads(r, 0), epochs=4, lr=0.5, start=start, **options
    )
    torch.testing.assert_close(plugin.encoders[0].weight.data, weight.data, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(plugin.encoders[0].bias.data, bias.data, rtol=1e-8, atol=1e-10)


def test_the_autoencoder_learns():
    """With time, classes are told apart through its code of two numbers."""
    model, plugin = MultiHead(hidden=32), EBLLPlugin(code_size=2, autoencoder_lr=1.0)
    losses = []

    def remember(features, task_loss, **options):
        def watched(rebuilt, rows):
            losses.append(float(task_loss(rebuilt, rows).detach()))
            return task_loss(rebuilt, rows)

        return train_encoder(features, watched, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avalanche_mas.plugins.ebll.plugin.train_encoder", remember)
        train(naive(model, plugin), split(task_labels=True).train_stream[:1])
    assert losses[-1] < 0.2 * losses[0]


def test_an_experience_of_two_tasks(monkeypatch):
    """Each sample is classified by its own task's head, and counts as much as any other."""
    x, y = clusters(n_classes=4)
    both_tasks = concat_datasets([dataset(x[:20], y[:20]), dataset(x[20:30], y[:10], task=1)])
    benchmark = with_task_labels(benchmark_from_datasets(train=[both_tasks]))
    (experience,) = benchmark.train_stream
    experience.classes_in_this_experience = [0, 1]
    model, values = MultiHead(masking=False), []

    def remember(features, task_loss, **options):
        values.append(task_loss(model.features(x[:30]), torch.arange(30)))
        return train_encoder(features, task_loss, **options)

    monkeypatch.setattr("avalanche_mas.plugins.ebll.plugin.train_encoder", remember)
    train(naive(model, ebll()), [experience])
    scores = torch.cat([model(x[:20], 0), model(x[20:30], 1)])
    expected = nn.functional.cross_entropy(scores, torch.cat([y[:20], y[:10]]))
    torch.testing.assert_close(values, [expected])


def test_training_the_autoencoder_leaves_no_trace():
    def look(strategy):
        model = strategy.model
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        modes = [module.training for module in model.modules()]
        return state(model), gradients, torch.get_rng_state(), modes

    before, after = Watch("after_training_exp", look), Watch("after_training_exp", look)
    train(naive(Noisy(), before, ebll(), after), split(task_labels=True).train_stream)
    for (a, g, rng, modes), (b, h, rng_after, modes_after) in zip(
        before.seen, after.seen, strict=True
    ):
        assert same_bits(a, b)
        assert same_bits(g, h)
        assert torch.equal(rng, rng_after)
        assert modes == modes_after


@both
@pytest.mark.parametrize("make", [Noisy, Growing])
def test_without_strength_it_is_finetuning_and_without_codes_lwf(targets, make):
    model, stream = make(), split(task_labels=make is Noisy).train_stream
    runs = []
    for plugins in (
        [],
        [ebll(0.0, 2.0, 0.0, targets=targets)],
        [LwFPlugin(1.5, 3.0, targets=targets)],
        [ebll(1.5, 3.0, 0.0, targets=targets)],
        [ebll(0.0, 2.0, 5.0, targets=targets)],
    ):
        torch.manual_seed(0)
        strategy = naive(copy.deepcopy(model), *plugins)
        strategy.train(stream)
        runs.append(state(strategy.model))
    assert same_bits(runs[0], runs[1])
    assert same_bits(runs[2], runs[3])
    assert not same_bits(runs[0], runs[2])
    assert not same_bits(runs[0], runs[4])


@pytest.mark.parametrize("make", [MultiHead, Noisy])
def test_recorded_equals_recomputed(make):
    model, runs = make(), []
    for targets in TARGETS:
        plugin = ebll(1.0, 2.0, 3.0, targets=targets, batch_size=5)
        stream = split(task_labels=True).train_stream
        runs.append(state(train(naive(copy.deepcopy(model), plugin), stream).model))
    # how a product rounds a row may depend on the other rows, which are those of another batch
    torch.testing.assert_close(*runs, rtol=1e-5, atol=1e-6)


def test_the_stronger_the_less_codes_change():
    first, second = split(task_labels=True).train_stream[:2]
    plugin, model = ebll(), MultiHead()
    train(naive(model, plugin), [first])
    x = clusters()[0][20:40]

    def code(model):
        return torch.sigmoid(plugin.encoders[0](model.features(x))).detach()

    before, drifts = code(model), []
    for strength in (0.0, 1e2, 1e4):
        own, strong = copy.deepcopy(model), copy.deepcopy(plugin)
        strong.alpha, strong.code_alpha = 0.0, strength
        optimizer = optim.SGD(own.parameters(), lr=0.05 / (1 + strength))
        train(naive(own, strong, optimizer=optimizer, epochs=20), [second])
        drifts.append(float((code(own) - before).abs().max()))
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[0] > 1e-3
    assert drifts[-1] < 1e-2 * drifts[0]


class Image(nn.Module):
    """Features of shape (samples, 4, 2, 2), which the classifier flattens."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 4, 3, padding=1))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(16, 6))
        self.scale = nn.Identity()

    def forward(self, x):
        return self.scale(self.fc(self.body(x).relu()))


def test_the_classifier_is_named_or_asked_for():
    stream = split().train_stream[:2]
    with pytest.raises(
        ValueError, match=r"Pass classifier='...'. Candidates: body, fc, fc.1, scale"
    ):
        train(naive(Image(), ebll()), stream)
    for name in ("fc", "fc.1"):
        plugin = ebll(classifier=name)
        train(naive(Image(), plugin), stream)
        assert plugin.encoders[1].weight.shape == (4, 16)


def test_a_classifier_that_is_not_the_models_end():
    model = Image()
    before = weights(model)
    with pytest.raises(ValueError, match="output of the classifier 'body' is not the model's"):
        train(naive(model, ebll(classifier="body")), split().train_stream)
    assert same_bits(weights(model), before)


def test_a_network_that_has_diverged_is_not_blamed_on_its_classifier():
    model = mlp()
    strategy = naive(model, ebll(classifier="2"))
    first, second, _ = split().train_stream
    train(strategy, [first])
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    train(strategy, [second])


def test_the_code_is_smaller_than_the_features():
    with pytest.raises(ValueError, match="code_size is 16, but an undercomplete autoencoder of 16"):
        train(naive(mlp(), ebll(classifier="2", code_size=16)), split().train_stream)


def test_an_online_stream_has_one_autoencoder_for_each_task():
    plugin = ebll(targets="recomputed", classifier="2")
    parts = split_online_stream(split().train_stream, 5, access_task_boundaries=True)
    naive(mlp(), plugin, epochs=1).train(list(parts))
    assert len(plugin.encoders) == 3


@both
def test_checkpoint_and_resume(targets, tmp_path):
    make = lambda: ebll(1.0, 2.0, 5.0, targets=targets)  # noqa: E731
    assert_resumes(Noisy, make, tmp_path, task_labels=True)


@pytest.mark.parametrize(
    "options",
    [
        {"code_alpha": -0.1},
        {"code_size": 0},
        {"reconstruction": float("nan")},
        {"autoencoder_lr": -1.0},
        {"autoencoder_epochs": 0},
        {"autoencoder_batch_size": 0},
    ],
)
def test_bad_options_fail_at_once_and_are_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        EBLLPlugin(**options)
