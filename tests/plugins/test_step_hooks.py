"""The penalty acts when the optimizer steps: accumulated gradients, closures, gradient scalers."""

import pytest
import torch
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from tiny_avalanche import assert_close, mlp, same_bits, split, train, weights
from torch import nn, optim

from avalanche_mas import EWCPlugin, MASPlugin, SIPlugin

STEPS = ["proximal", "gradient"]
penalties = pytest.mark.parametrize(
    ("plugin_type", "step"), [(p, step) for p in (MASPlugin, EWCPlugin, SIPlugin) for step in STEPS]
)


def sgd(parameters):
    return optim.SGD(parameters, lr=0.05, momentum=0.9)


def learnt(strategy_class, *plugins, optimizer=sgd, size=20, **options):
    """The strategy after three tasks of 20 samples."""
    torch.manual_seed(0)
    model = mlp()
    strategy = strategy_class(
        model=model,
        optimizer=optimizer(model.parameters()),
        train_mb_size=size,
        train_epochs=3,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loggers=[]),
        **options,
    )
    return train(strategy, split(dtype=torch.get_default_dtype()).train_stream)


class Accumulating(Naive):
    """The mean gradient of four mini-batches for each step."""

    def __init__(self, *, scaler=None, **options):
        super().__init__(**options)
        self.scaler, self.batches = scaler, 0

    def criterion(self):
        return super().criterion() / 4 if self.is_training else super().criterion()

    def backward(self):
        (self.scaler.scale(self.loss) if self.scaler else self.loss).backward()

    def optimizer_step(self):
        self.batches += 1
        if self.batches % 4:
            return
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        for parameter in self.model.parameters():
            parameter.grad = None

    def training_epoch(self, **kwargs):
        self.optimizer.zero_grad = lambda: None
        super().training_epoch(**kwargs)
        del self.optimizer.zero_grad


def scaler():
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)


@penalties
@pytest.mark.parametrize("make_scaler", [lambda: None, scaler], ids=["plain", "scaled"])
def test_accumulated_gradients_are_those_of_one_large_mini_batch(plugin_type, step, make_scaler):
    torch.set_default_dtype(torch.float64)
    whole, parts = plugin_type(5.0, step=step), plugin_type(5.0, step=step)
    at_once = learnt(Naive, whole)
    in_four = learnt(Accumulating, parts, size=5, scaler=make_scaler())
    assert_close(weights(in_four.model), weights(at_once.model), rtol=1e-9, atol=1e-12)
    assert_close(parts.importance, whole.importance, rtol=1e-6, atol=1e-12)


class WithClosure(Naive):
    """The loss is computed once more in each step."""

    def optimizer_step(self):
        def closure():
            self.optimizer.zero_grad()
            loss = self._criterion(self.forward(), self.mb_y)
            loss.backward()
            return loss

        self.optimizer.step(closure)


@penalties
def test_a_closure_changes_no_bit(plugin_type, step):
    """SGD evaluates it once, where the gradient has been taken before."""
    runs = [learnt(kind, plugin_type(5.0, step=step)) for kind in (Naive, WithClosure)]
    assert same_bits(*(weights(run.model) for run in runs))


def lbfgs(parameters):
    return optim.LBFGS(parameters, line_search_fn="strong_wolfe", max_iter=5)


def test_a_closure_that_is_evaluated_often_is_penalised_each_time():
    """With a line search, which compares losses and so needs the penalty's value too."""
    torch.set_default_dtype(torch.float64)
    free, held = (learnt(WithClosure, MASPlugin(s), optimizer=lbfgs) for s in (0.0, 1e8))
    penalty = held.plugins[0].penalty
    moved = max(float((w - penalty.anchor[n]).abs().max()) for n, w in weights(held.model).items())
    assert moved < 1e-9
    assert not same_bits(weights(free.model), weights(held.model))


def test_lbfgs_needs_a_line_search():
    with pytest.raises(ValueError, match=r"closure.*line_search_fn='strong_wolfe'"):
        learnt(WithClosure, MASPlugin(), optimizer=optim.LBFGS)


def test_an_optimizer_that_maximises_is_refused():
    def maximising(parameters):
        return optim.SGD(parameters, maximize=True)

    with pytest.raises(ValueError, match=r"SGD\(maximize=True\) would follow the penalty"):
        learnt(Naive, MASPlugin(step="gradient"), optimizer=maximising)


class Scaled(Naive):
    """As users write it, with the scaler wherever they keep it."""

    def __init__(self, *, scaler, **options):
        super().__init__(**options)
        self.kept = {"scaler": scaler}

    def backward(self):
        self.kept["scaler"].scale(self.loss).backward()

    def optimizer_step(self):
        self.kept["scaler"].step(self.optimizer)
        self.kept["scaler"].update()


@penalties
@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_changes_no_bit(plugin_type, step, fused):
    """A fused optimizer gets scaled gradients, and skips a step by itself."""

    def adam(parameters):
        return optim.Adam(parameters, lr=0.01, fused=fused)

    plain, scaled = (plugin_type(5.0, step=step) for _ in range(2))
    runs = [learnt(Naive, plain, optimizer=adam, size=5)]
    runs.append(learnt(Scaled, scaled, optimizer=adam, size=5, scaler=scaler()))
    assert same_bits(*(weights(run.model) for run in runs))
    assert same_bits(dict(plain.importance), dict(scaled.importance))


@penalties
def test_a_step_that_a_fused_optimizer_skips_moves_nothing(plugin_type, step):
    batches = []

    def criterion(output, y):
        batches.append({n: t.clone() for n, t in weights(strategy.model).items()})
        return nn.functional.cross_entropy(output, y) * (torch.inf if len(batches) == 18 else 1)

    torch.manual_seed(0)
    model, plugin = mlp(), plugin_type(5.0, step=step)
    strategy = Scaled(
        model=model,
        optimizer=optim.Adam(model.parameters(), lr=0.01, fused=True),
        criterion=criterion,
        train_mb_size=5,
        train_epochs=3,
        plugins=[plugin],
        evaluator=EvaluationPlugin(loggers=[]),
        scaler=scaler(),
    )
    train(strategy, split().train_stream[:2])
    assert same_bits(batches[17], batches[18])
    assert not same_bits(batches[16], batches[17])
    assert all(omega.isfinite().all() for omega in plugin.importance.values())


@penalties
def test_an_optimizer_is_free_again_when_training_ends(plugin_type, step):
    optimizer = learnt(Naive, plugin_type(5.0, step=step)).optimizer
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("first", [True, False])
def test_the_path_integral_has_no_penalty_in_it(first):
    """Whichever of two plugins comes first, SI's gradient is the task's alone."""
    path, penalty, gradients = SIPlugin(0.0), MASPlugin(5.0, step="gradient"), []

    class Recording(Naive):
        def optimizer_step(self):
            gradients.append({n: p.grad.clone() for n, p in self.model.named_parameters()})
            super().optimizer_step()

    record = path._record

    def recorded(optimizer, args, kwargs):
        record(optimizer, args, kwargs)
        assert same_bits(path.path._gradient, gradients[-1])

    path._record = recorded
    learnt(Recording, *((path, penalty) if first else (penalty, path)))
    assert len(gradients) == 9
