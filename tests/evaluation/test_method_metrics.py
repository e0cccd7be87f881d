import io
import math
import warnings

import dill
import pandas as pd
import pytest
import torch
from avalanche.logging import CSVLogger, TensorboardLogger, TextLogger, WandBLogger
from avalanche.training.plugins import EvaluationPlugin, LwFPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn, optim

from avalanche_mas import MASPlugin
from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.evaluation import (
    FreeParameters,
    MethodMemory,
    PenaltyShares,
    PenaltyValue,
    ScalarCSVLogger,
    free_fraction,
    method_memory,
)
from avalanche_mas.penalty.quadratic import QuadraticPenalty
from avalanche_mas.plugins import RegularizationPlugin
from avalanche_mas.plugins.registry import METHODS

STREAM = "train_phase/train_stream"
QUADRATIC = [
    name
    for name, method in METHODS.items()
    if method.plugin is not None and issubclass(method.plugin, RegularizationPlugin)
]


@pytest.fixture(scope="module")
def digits():
    return permuted_digits(3)


def strategy_with(*plugins, metrics=(), loggers=(), optimizer=optim.SGD, **options):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    return Naive(
        model=model,
        optimizer=optimizer(model.parameters(), lr=0.05),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=100,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(*metrics, loggers=list(loggers)),
        **options,
    )


def emitted(strategy, name):
    """Iterations and values of a metric."""
    return strategy.evaluator.get_all_metrics()[f"{name}/{STREAM}"]


class Naively(SupervisedPlugin):
    """(λ/2) Σ Ω (θ−θ*)² by its definition, of every parameter, from Ω and copies of θ*."""

    def __init__(self, mas):
        super().__init__()
        self.mas, self.anchor = mas, None
        self.by_epoch, self.by_iteration = [], []

    def parts(self, model):
        if self.anchor is None:
            return {}
        return {
            name: float(
                self.mas.lambda_reg
                / 2
                * (self.mas.importance[name] * (theta.detach() - self.anchor[name]) ** 2)
                .double()
                .sum()
            )
            for name, theta in model.named_parameters()
        }

    def after_training_iteration(self, strategy, **kwargs):
        self.by_iteration.append(sum(self.parts(strategy.model).values()))

    def after_training_epoch(self, strategy, **kwargs):
        self.by_epoch.append(self.parts(strategy.model))

    def after_training_exp(self, strategy, **kwargs):
        self.anchor = {n: p.detach().clone() for n, p in strategy.model.named_parameters()}


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_the_penalty_and_its_shares(digits, step):
    mas = MASPlugin(1.0, step=step)
    naive = Naively(mas)
    metrics = [PenaltyValue(), PenaltyValue("iteration"), PenaltyShares()]
    strategy = strategy_with(mas, naive, metrics=metrics, train_epochs=2)
    strategy.train(digits.train_stream[:2])

    at, values = emitted(strategy, "Penalty_Epoch")
    totals = [sum(parts.values()) for parts in naive.by_epoch]
    assert at == [13, 26, 39, 52]
    assert totals[:2] == [0, 0]
    assert min(totals[2:]) > 1e-4
    assert values == pytest.approx(totals, rel=1e-4)
    at, values = emitted(strategy, "Penalty_MB")
    assert at == list(range(52))
    assert values == pytest.approx(naive.by_iteration, rel=1e-4)

    for layer in ("1", "3"):
        at, values = emitted(strategy, f"Penalty_Share_Epoch/{layer}")
        assert at == [39, 52]  # there is no penalty in the first experience
        of_layer = [p[f"{layer}.weight"] + p[f"{layer}.bias"] for p in naive.by_epoch[2:]]
        expected = [part / total for part, total in zip(of_layer, totals[2:], strict=True)]
        assert values == pytest.approx(expected, rel=1e-4)
        assert 0 < values[-1] < 1


def test_the_penalty_is_that_of_its_parameters_and_the_constant():
    model = nn.Linear(2, 1)
    omega = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}
    penalty = QuadraticPenalty(model, omega, 4.0, constant=0.5)
    with torch.no_grad():
        model.weight += torch.tensor([[1.0, 2.0]])
        model.bias -= 1
    parts = {name: float(value) for name, value in penalty.by_parameter().items()}
    assert parts == pytest.approx({"weight": 2 * (1 + 8), "bias": 2 * 3})
    assert float(penalty.value()) == pytest.approx(18 + 6 + 2 * 0.5)


@pytest.mark.parametrize("steps", [1, 5, 200])
def test_a_free_parameter_goes_at_least_half_of_its_way(steps):
    omega = torch.logspace(-4, 4, 400)
    model = nn.Module()
    model.theta = nn.Parameter(torch.zeros(400))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    penalty = QuadraticPenalty(model, {"theta": omega}, 2.0)
    fraction = free_fraction(model, [penalty], optimizer, steps)
    free = 0.1 * 2.0 * omega * steps <= 1
    assert fraction == pytest.approx(float(free.double().mean()))
    assert 0.2 < fraction < 0.8
    for _ in range(steps):
        model.theta.grad = torch.ones(400)
        optimizer.step()
        penalty.proximal_step(optimizer)
    went = -model.theta.detach() / (0.1 * steps)  # of the way without the penalty
    assert went[free].min() >= 0.5 - 1e-4
    assert went[~free].max() <= 1 - 1 / math.e + 1e-3


def test_what_counts_as_free():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(1, 1))
    model[1].requires_grad_(False)
    trained = [*model[0].parameters(), *model[1].parameters()]  # the last layer is not
    omega = {"0.weight": torch.tensor([[1.0, 10.0], [100.0, 0.0]]), "1.bias": torch.tensor([9e9])}
    penalty = QuadraticPenalty(model, omega, 1.0)

    def fraction(optimizer, *penalties, steps=1):
        return free_fraction(model, penalties, optimizer, steps)

    sgd = optim.SGD(trained, lr=0.05)
    assert fraction(sgd) == 1
    assert fraction(sgd, penalty) == 5 / 6  # the bias, and four weights but the one of 100
    assert fraction(sgd, penalty, penalty) == 5 / 6  # 2 · 0.05 · 10 = 1
    assert fraction(sgd, penalty, penalty, penalty) == 4 / 6
    assert fraction(sgd, penalty, steps=1000) == 3 / 6
    assert fraction(sgd, penalty, steps=0) == 1
    assert fraction(optim.SGD(trained, lr=0.05, momentum=0.9), penalty) == 4 / 6
    adam = optim.Adam(trained, lr=0.05)
    for parameter in model[0].parameters():
        parameter.grad = torch.full_like(parameter, 0.01)
    adam.step()
    assert fraction(adam, penalty) == 3 / 6  # its step is lr / |gradient| = 5
    frozen = optim.SGD(model[1].parameters(), lr=0.1)
    assert math.isnan(fraction(frozen, penalty))
    with pytest.raises(ValueError, match="iterations must not be negative, got -1"):
        fraction(sgd, penalty, steps=-1)


def test_free_parameters_and_memory_after_each_experience(digits):
    mas = MASPlugin(10)
    metrics = [FreeParameters(), MethodMemory()]
    strategy = strategy_with(mas, metrics=metrics, train_epochs=2)
    free, memory = [], []
    for experience in digits.train_stream[:2]:
        strategy.train(experience)
        rates = torch.cat([0.05 * 10 * 26 * omega.flatten() for omega in mas.importance.values()])
        free.append(float((rates <= 1).double().mean()))
        memory.append(method_memory(strategy))
    assert emitted(strategy, "Free_Parameters") == ([26, 52], pytest.approx(free))
    assert 0.1 < free[1] < free[0] < 0.99
    assert emitted(strategy, "Method_Memory") == ([26, 52], memory)
    assert metrics[0].result() == pytest.approx(free[1])

    shorter = FreeParameters(iterations=1)
    strategy.evaluator.metrics.append(shorter)
    strategy.train(digits.train_stream[2])
    assert shorter.result() > strategy.evaluator.metrics[0].result()


@pytest.mark.parametrize("name", QUADRATIC)
def test_every_method_with_a_quadratic_penalty(digits, name):
    metrics = [PenaltyValue(), PenaltyShares(), FreeParameters(), MethodMemory()]
    strategy = strategy_with(*METHODS[name].plugins(1.0), metrics=metrics)
    strategy.train(digits.train_stream)
    assert emitted(strategy, "Penalty_Epoch")[1][0] == 0
    assert min(emitted(strategy, "Penalty_Epoch")[1][1:]) > 0
    shares = [emitted(strategy, f"Penalty_Share_Epoch/{layer}")[1] for layer in ("1", "3")]
    assert torch.tensor(shares).sum(0).tolist() == pytest.approx([1, 1])
    assert all(0 < value <= 1 for value in emitted(strategy, "Free_Parameters")[1])
    assert min(emitted(strategy, "Method_Memory")[1]) > 0


@pytest.mark.parametrize("metric", [PenaltyValue(), PenaltyShares(), FreeParameters()])
def test_without_a_penalty_nothing_is_trained(digits, metric):
    strategy = strategy_with(LwFPlugin(), metrics=[metric])
    before = [parameter.detach().clone() for parameter in strategy.model.parameters()]
    with pytest.raises(ValueError, match=r"such as MASPlugin, .* this strategy has LwFPlugin"):
        strategy.train(digits.train_stream[0])
    assert all(map(torch.equal, before, strategy.model.parameters()))


def test_an_optimizer_whose_step_is_unknown_is_refused_before_training(digits):
    strategy = strategy_with(MASPlugin(), metrics=[FreeParameters()], optimizer=optim.Adagrad)
    with pytest.raises(TypeError, match="SGD, Adam and AdamW, not for Adagrad"):
        strategy.train(digits.train_stream[0])
    assert strategy.clock.train_iterations == 0


def test_options_out_of_range():
    with pytest.raises(ValueError, match="per must be 'epoch' or 'iteration', got 'batch'"):
        PenaltyValue("batch")
    with pytest.raises(ValueError, match="iterations must be positive, got 0"):
        FreeParameters(iterations=0)


def test_avalanches_loggers_take_them(digits, tmp_path):
    text, path = io.StringIO(), tmp_path / "new" / "metrics.csv"
    tensorboard = TensorboardLogger(tmp_path / "tensorboard")
    wandb = WandBLogger(params={"mode": "disabled"})  # its own code, without its service
    loggers = [TextLogger(text), CSVLogger(tmp_path / "csv"), tensorboard, ScalarCSVLogger(path)]
    metrics = [PenaltyValue(), PenaltyShares(), FreeParameters(), MethodMemory()]
    strategy = strategy_with(MASPlugin(0.1), metrics=metrics, loggers=[*loggers, wandb])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own
        strategy.train(digits.train_stream[:2])
        tensorboard.writer.flush()
        written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    history = strategy.evaluator.get_all_metrics()
    names = ["Penalty_Epoch", "Penalty_Share_Epoch/1", "Penalty_Share_Epoch/3"]
    names += ["Free_Parameters", "Method_Memory"]
    assert set(history) == {f"{name}/{STREAM}" for name in names}
    rows = pd.read_csv(path)
    for name, (at, values) in history.items():
        shown = f"{values[-1]:.4f}" if isinstance(values[-1], float) else values[-1]
        assert f"{name} = {shown}" in text.getvalue()
        scalars = [(scalar.step, scalar.value) for scalar in written.Scalars(name)]
        assert scalars == [
            (step, pytest.approx(value)) for step, value in zip(at, values, strict=True)
        ]
        own = rows[rows["name"] == name]
        assert own["iteration"].tolist() == at
        assert own["value"].tolist() == values  # every digit
        assert wandb.wandb.run.summary[name] == values[-1]
    assert len(rows) == sum(len(at) for at, _ in history.values())


def test_the_scalar_logger_goes_on_where_it_was(tmp_path):
    path = tmp_path / "metrics.csv"
    ScalarCSVLogger(path).log_single_metric("a", 1.5, 3)
    logger = dill.loads(dill.dumps(ScalarCSVLogger(path)))
    logger.log_single_metric("b, c", 2, 4)
    logger.log_single_metric("a histogram", torch.zeros(3), 4)
    table = pd.read_csv(path)
    assert table.values.tolist() == [[3, "a", 1.5], [4, "b, c", 2.0]]
    other = tmp_path / "other.csv"
    other.write_text("name,price\n")
    with pytest.raises(ValueError, match="has the columns name, price, not iteration, name, value"):
        ScalarCSVLogger(other)
    assert other.read_text() == "name,price\n"
