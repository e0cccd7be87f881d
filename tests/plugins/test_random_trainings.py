"""Trainings drawn at random end where a plain loop ends that minimises Eq. 3 as written.

100 of them in CI; ``TRAININGS=1000 pytest tests/plugins/test_random_trainings.py`` for more.
"""

import io
import math
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from avalanche.models import IncrementalClassifier
from avalanche.models.dynamic_modules import avalanche_model_adaptation
from avalanche.models.dynamic_optimizers import update_optimizer
from avalanche.models.utils import avalanche_forward
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from every_method import ManyHeads, OneHead
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tiny_avalanche import split
from torch import nn, optim

from avalanche_mas import MASPlugin, QuadraticPenalty, estimate_importance
from avalanche_mas.training.checkpoint import maybe_load_checkpoint, save_checkpoint

SIZE, EPOCHS = 5, 1  # four mini-batches
STABLE = ("SGD", "Adam", "AdamW")  # with a proximal step


@dataclass(frozen=True)
class Training:
    """How a network is trained."""

    seed: int
    tasks: int
    optimizer: str
    options: tuple  # of the optimizer
    step: str
    strength: float
    accumulate: str | float
    heads: str
    frozen: str  # the first layer: never, always, or once the first task was learnt
    parts: int  # mini-batches whose gradients make up one step
    clip: float
    scaler: str
    closure: bool
    way: str
    again: str  # how it goes on after the first task

    def model(self):
        torch.manual_seed(self.seed)
        growing = IncrementalClassifier(12, initial_out_features=2)
        made = {
            "one": OneHead,
            "growing": lambda: OneHead(classifier=growing),
            "many": ManyHeads,
        }[self.heads]()
        made.features[0].requires_grad_(self.frozen != "always")
        return made

    def optimizer_of(self, model):
        return getattr(optim, self.optimizer)(model.parameters(), **dict(self.options))

    @property
    def proximal(self):
        return self.step == "proximal" or (self.step == "auto" and self.optimizer in STABLE)

    def scaler_of(self):
        return torch.amp.GradScaler("cpu", 2.0**8, enabled=self.scaler != "none")

    def loss(self, output, y, number):
        """Of mini-batch ``number`` of a task; of one in all, the loss overflows."""
        spoilt = self.scaler == "skips" and number == 2
        return nn.functional.cross_entropy(output, y) / self.parts * (math.inf if spoilt else 1)


@st.composite
def trainings(draw):
    """Those that make sense: see the conditions."""
    of = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    kind = of("SGD", "SGD", "Adam", "AdamW", "RMSprop", "NAdam", "Adagrad", "LBFGS")
    options = {"lr": of(0.01, 0.05)}
    if kind == "SGD":
        options |= {"momentum": of(0.0, 0.9), "weight_decay": of(0.0, 0.01)}
        options["dampening"] = of(0.0, 0.3) if options["momentum"] else 0.0
        options["nesterov"] = bool(options["momentum"] and not options["dampening"]) and of(0, 1)
    elif kind in ("Adam", "AdamW"):
        options |= {"amsgrad": of(False, True), "weight_decay": of(0.0, 0.01)}
        options["fused"] = of(False, True)
    searching = kind == "LBFGS"
    if searching:
        options = {"lr": 0.5, "max_iter": 3, "line_search_fn": "strong_wolfe"}
    step = of("auto", "gradient", *["proximal"] * (kind in STABLE))
    soft = step == "gradient" or kind not in STABLE
    parts = 1 if searching else of(1, 2)
    scaler = "none" if searching else of("none", "scales", "skips")
    closure = searching or (parts == 1 and scaler == "none" and of(False, True))
    return Training(
        seed=draw(st.integers(0, 1000)),
        tasks=of(2, 2, 2, 3),
        optimizer=kind,
        options=tuple(options.items()),
        step=step,
        strength=of(0.0, 0.01, 0.1) if soft else of(0.0, 0.1, 10.0, 1e6),
        accumulate=of("sum", "mean", 0.3),
        heads="one" if searching else of("one", "growing", "many"),
        frozen=of("never", "always", "later"),
        parts=parts,
        clip=math.inf if closure else of(math.inf, 0.05),
        scaler=scaler,
        closure=closure,
        way=of("plugin", "plugin", "own loop"),
        # PyTorch's LBFGS cannot be pickled
        again=of("goes on", "plugin loaded", *["strategy loaded"] * (not searching)),
    )


class Drawn(Naive):
    """The strategy that a user would write for such a training."""

    def __init__(self, *, training, model, plugin):
        self.training, self.scaler, self.number = training, training.scaler_of(), 0
        super().__init__(
            model=model,
            optimizer=training.optimizer_of(model),
            train_mb_size=SIZE,
            train_epochs=EPOCHS,
            plugins=[plugin],
            evaluator=EvaluationPlugin(loggers=[]),
        )

    def _before_training_exp(self, **kwargs):
        self.number = 0
        super()._before_training_exp(**kwargs)

    def criterion(self):
        return self.training.loss(self.mb_output, self.mb_y, self.number)

    def training_epoch(self, **kwargs):
        self.optimizer.zero_grad = lambda: None  # Avalanche's own, before each mini-batch
        super().training_epoch(**kwargs)
        del self.optimizer.zero_grad

    def backward(self):
        self.scaler.scale(self.loss).backward()

    def optimizer_step(self):
        self.number += 1
        if self.number % self.training.parts:
            return
        if self.training.closure:
            self.optimizer.step(self.evaluate)
        else:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.model.zero_grad()

    def evaluate(self):
        self.model.zero_grad()
        loss = self.training.loss(self.forward(), self.mb_y, self.number)
        loss.backward()
        return loss


def by_plugin(training, stream, folder):
    """What a strategy with the plugin comes to."""
    model = training.model()

    def plugin():
        return MASPlugin(training.strength, step=training.step, accumulate=training.accumulate)

    strategy = Drawn(training=training, model=model, plugin=plugin())
    for task, experience in enumerate(stream):
        if task == 1 and training.frozen == "later":
            strategy.model.features[0].requires_grad_(False)
        torch.manual_seed(task)  # new heads are drawn
        strategy.train(experience, shuffle=False)
        if task == 0 and training.again == "plugin loaded":
            file = io.BytesIO()
            torch.save(strategy.plugins[0].state_dict(), file)
            file.seek(0)
            loaded = plugin()
            loaded.load_state_dict(torch.load(file, weights_only=True), strategy.model)
            strategy.plugins[0] = loaded
        elif task == 0 and training.again == "strategy loaded":
            save_checkpoint(strategy, folder / "checkpoint")
            strategy, _ = maybe_load_checkpoint(strategy, folder / "checkpoint")
    return strategy.model


def by_loop(training, stream, method):
    """What a loop without a strategy comes to; Avalanche grows its heads and its optimizer."""
    model = training.model()
    optimizer, scaler = training.optimizer_of(model), training.scaler_of()
    held = update_optimizer(optimizer, dict(model.named_parameters()), reset_state=True)
    for task, experience in enumerate(stream):
        if task == 1 and training.frozen == "later":
            model.features[0].requires_grad_(False)
        torch.manual_seed(task)
        avalanche_model_adaptation(model.train(), experience)
        held = update_optimizer(optimizer, dict(model.named_parameters()), held)
        samples = [experience.dataset[k][:2] for k in range(len(experience.dataset))]
        x, y = torch.stack([x for x, _ in samples]), torch.tensor([y for _, y in samples])

        def forward(model, x, label=experience.task_label):
            return avalanche_forward(model, x, torch.full((len(x),), label))

        batches = list(zip(x.split(SIZE), y.split(SIZE), strict=True)) * EPOCHS
        method.learn(training, model, forward, batches, optimizer, scaler)
        method.measure(model.eval(), forward, x)
    return model


def steps(training, model, forward, batches, optimizer, scaler, before=None, after=None):
    """One task. ``before`` and ``after`` are called in each step that is taken."""
    for number, (x, y) in enumerate(batches):

        def evaluate(x=x, y=y, number=number):
            model.zero_grad()
            loss = training.loss(forward(model, x), y, number)
            loss.backward()
            return loss + before() if before else loss

        done = True
        if training.closure:
            optimizer.step(evaluate)
        else:
            scaler.scale(training.loss(forward(model, x), y, number)).backward()
            if (number + 1) % training.parts:
                continue
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), training.clip)
            done = all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
            if before and done:
                before()
            scaler.step(optimizer)
            scaler.update()
        if after and done:
            after()
        model.zero_grad()


class Hooked:
    """This package's functions in a loop of one's own."""

    def __init__(self, training):
        self.accumulate, self.strength = training.accumulate, training.strength
        self.tasks, self.omega, self.penalty = 0, None, None

    def learn(self, training, model, *rest):
        if self.penalty is None:
            return steps(training, model, *rest)
        self.penalty.bind(model)
        with self.penalty.register(rest[2], training.step):
            return steps(training, model, *rest)

    def measure(self, model, forward, x):
        new = estimate_importance(model, x, forward=forward)
        decay = {"sum": None, "mean": self.tasks / (self.tasks + 1)}.get(self.accumulate, 0.3)
        self.omega = self.omega.add(new, decay=decay) if self.omega else new
        self.penalty = QuadraticPenalty(model, self.omega, self.strength)
        self.tasks += 1


class Reference:
    """Eq. 2 and 3 as they are written; nothing of this package."""

    def __init__(self, training):
        self.training, self.tasks, self.omega, self.anchor = training, 0, {}, {}

    def learn(self, training, model, forward, batches, optimizer, scaler):
        parameters = dict(model.named_parameters())
        now = {n: p for n, p in parameters.items() if n in self.omega}
        omega = {n: padded(o, now[n]) for n, o in self.omega.items()}
        anchor = {n: padded(self.anchor[n], now[n]) for n in now}

        def moving():
            return [n for n, p in now.items() if p.grad is not None]

        def before():
            """The gradient of (λ/2) Σ Ω (θ−θ*)², where the task has one."""
            with torch.enable_grad():
                terms = [(omega[n] * (now[n] - anchor[n]) ** 2).sum() for n in now]
                value = training.strength / 2 * sum(terms)
                gradients = torch.autograd.grad(value, [now[n] for n in moving()])
            for n, gradient in zip(moving(), gradients, strict=True):
                now[n].grad += gradient
            return value.detach()

        @torch.no_grad()
        def after():
            """The minimum of (1/2η)(θ−θ′)² + (λ/2) Ω (θ−θ*)²."""
            for n in moving():
                weight = step_length(training, optimizer, now[n]) * training.strength * omega[n]
                now[n].copy_((now[n] + weight * anchor[n]) / (1 + weight))

        hooks = {"after": after} if training.proximal else {"before": before}
        steps(training, model, forward, batches, optimizer, scaler, **hooks if now else {})

    def measure(self, model, forward, x):
        """The mean of |∂‖F(x)‖²/∂θ| over samples; then the tasks' sum, mean or decay."""
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        omega = {n: torch.zeros_like(p) for n, p in trained.items()}
        for sample in x:
            norm = forward(model, sample[None]).square().sum()
            found = torch.autograd.grad(norm, list(trained.values()), allow_unused=True)
            for total, gradient in zip(omega.values(), found, strict=True):
                if gradient is not None:
                    total += gradient.abs() / len(x)
        for n, new in omega.items():
            old = padded(self.omega.get(n, torch.zeros_like(new)), new)
            how = self.training.accumulate
            decay = self.tasks / (self.tasks + 1) if how == "mean" else how
            if how == "sum" or not old.any() or not new.any():  # one of the two is all there is
                self.omega[n] = old + new
            else:
                self.omega[n] = decay * old + (1 - decay) * new
        self.anchor = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.tasks += 1


def padded(tensor, like):
    """With zeros where a head has grown."""
    ends = zip(reversed(like.shape), reversed(tensor.shape), strict=True)
    return nn.functional.pad(tensor, [k for new, old in ends for k in (0, new - old)])


def step_length(training, optimizer, parameter):
    """η, how far the optimizer goes in the end per unit of a constant gradient."""
    options = {"momentum": 0.0, "dampening": 0.0, **dict(training.options)}
    if training.optimizer == "SGD":
        length = (1 - options["dampening"]) / (1 - options["momentum"])
        return options["lr"] * (length if options["momentum"] else 1)
    state = optimizer.state[parameter]
    second = state["max_exp_avg_sq" if options["amsgrad"] else "exp_avg_sq"]
    return options["lr"] / ((second / (1 - 0.999 ** float(state["step"]))).sqrt() + 1e-8)


@cache
def stream_of(task_labels):
    return split(task_labels=task_labels, dtype=torch.float64).train_stream


@settings(max_examples=int(os.environ.get("TRAININGS", 100)), phases=[Phase.generate])
@given(trainings())
def test_a_training_minimises_what_eq_3_says(training):
    torch.set_default_dtype(torch.float64)
    stream = stream_of(training.heads == "many")[: training.tasks]
    expected = by_loop(training, stream, Reference(training))
    ours = run(training, stream)
    for name, parameter in expected.named_parameters():
        found = ours.get_parameter(name)
        torch.testing.assert_close(found, parameter, rtol=1e-5, atol=1e-8, msg=name)


def run(training, stream):
    if training.way == "own loop":
        return by_loop(training, stream, Hooked(training))
    with tempfile.TemporaryDirectory() as folder:
        return by_plugin(training, stream, Path(folder))
