"""Trains and measures a cell of fact learning: how well facts are found after each task."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from avalanche.benchmarks import CLExperience, CLScenario
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin, LRSchedulerPlugin, SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from avalanche_mas.evaluation import FactRetrievalMAP, method_memory
from avalanche_mas.models import FactLoss, FactNetwork
from avalanche_mas.plugins.registry import METHODS
from avalanche_mas.training import JointTraining

from ..training.stream import digest, train_or_diverge
from .cell import SUBSET, TRAIN_AND_TEST, FactCell, FactResult, FactTraining
from .data import fact_streams
from .network import make_network


def run_cell(cell: FactCell) -> FactResult:
    """Train on the tasks of a cell, and after each see how well all facts are found."""
    benchmark = fact_streams(cell)
    training, method = cell.training, METHODS[cell.row.method]
    RNGManager.set_random_seeds(cell.seed)
    width = len(benchmark.train_stream[0].dataset[0][1]) - 3  # the rest are the masks
    model = make_network(training.network, width // 3)
    optimizer = _optimizer(model, training)
    schedule: list[SupervisedPlugin] = []
    if training.decay_after is not None:
        schedule = [LRSchedulerPlugin(StepLR(optimizer, training.decay_after, 0.1))]
    strategy = method.strategy(
        model=model,
        optimizer=optimizer,
        criterion=FactLoss(),
        train_mb_size=training.batch_size,
        train_epochs=training.epochs,
        eval_mb_size=100,
        device="cuda" if torch.cuda.is_available() and cell.data.root is not None else "cpu",
        plugins=[*schedule, *method.plugins(cell.lam, **_options(cell, benchmark))],
        evaluator=EvaluationPlugin(FactRetrievalMAP(), loggers=[]),
    )
    tasks = list(benchmark.train_stream)
    joint = issubclass(method.strategy, JointTraining)
    result = FactResult([], [], [], 0.0, 0, "")
    seconds, diverged = 0.0, False
    for step in [tasks] if joint else [[task] for task in tasks]:
        if not diverged:
            started = time.perf_counter()
            diverged = not train_or_diverge(strategy, step)
            seconds += time.perf_counter() - started
        *of_tasks, overall = _retrieval(strategy, benchmark.test_stream)
        result.tasks.append(of_tasks)
        result.overall.append(overall)
        if f"{SUBSET}_test" in benchmark.streams:
            result.subset.append(_retrieval(strategy, benchmark.streams[f"{SUBSET}_test"])[-1])
            (sports,) = benchmark.streams[f"{SUBSET}_train"]
            result.silent.append(silent_share(strategy, sports))
    return FactResult(
        result.tasks,
        result.overall,
        result.subset,
        train_seconds=seconds,
        memory_bytes=method_memory(strategy),
        weights_sha256=digest(model),
        silent=result.silent,
        diverged=diverged,
    )


def _optimizer(model: FactNetwork, training: FactTraining) -> Optimizer:
    """What trains the parameters that are not held: four groups, each at its own rate."""
    last = set(map(id, _last_layers(model)))
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            kind = id(parameter) in last, parameter.ndim == 1
            groups.setdefault(kind, []).append(parameter)
    rates = {
        (False, False): 1.0,
        (False, True): training.bias_rate,
        (True, False): training.last_rate,
        (True, True): training.last_bias_rate,
    }
    options = [
        {
            "params": parameters,
            "lr": training.learning_rate * rates[of_last, bias],
            "weight_decay": 0.0 if bias else training.weight_decay,
        }
        for (of_last, bias), parameters in groups.items()
    ]
    if training.optimizer == "adam":
        return Adam(options)
    return SGD(options, momentum=training.momentum)


def _last_layers(model: FactNetwork) -> list[nn.Parameter]:
    """The parameters of the linear layer that each branch ends in."""
    ends = [[*branch.modules()][-1] for branch in model.branches.values()]
    return [parameter for end in ends for parameter in end.parameters()]


def _options(cell: FactCell, benchmark: CLScenario) -> dict[str, Any]:
    """What the method's plugin needs to know of the data that it measures Ω on."""
    options: dict[str, Any] = {"accumulate": 0.0} if cell.row.anew else {}
    if cell.row.measured_on == SUBSET:
        options["streams"] = partial(_subset, benchmark.streams[f"{SUBSET}_train"][0])
    elif cell.row.measured_on == TRAIN_AND_TEST:
        options["streams"] = ("train", "test")
    return options


def _subset(subset: CLExperience, experience: CLExperience) -> Any:
    """After every task the same pictures."""
    return subset.dataset


@torch.no_grad()
def silent_share(strategy: SupervisedTemplate, experience: CLExperience) -> float:
    """The share of units that no picture makes positive: what leads to them has Ω = 0.

    :param strategy: whose model is asked, and left as it was.
    :param experience: of the pictures.
    :return: units and channels of the outputs of all ReLUs; in [0, 1].
    """
    model, awake = strategy.model, dict[nn.Module, Tensor]()

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        now = (output > 0).flatten(2).any(2) if output.ndim > 2 else output > 0
        awake[module] = now.any(0) | awake.get(module, torch.zeros_like(now[0]))

    training = model.training
    units = [m for m in model.modules() if isinstance(m, (nn.ReLU, nn.ReLU6))]
    hooks = [unit.register_forward_hook(note) for unit in units]
    model.eval()
    for x, *_ in DataLoader(experience.dataset.eval(), 100, generator=torch.Generator()):
        model(x.to(strategy.device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return 1 - float(torch.cat(list(awake.values())).double().mean())


def _retrieval(strategy: SupervisedTemplate, stream: Any) -> list[float]:
    """Mean average precision of each experience, then of the stream as a whole."""
    found = strategy.eval(stream)
    # the last values of other streams are there too
    names = [name for name in found if f"/eval_phase/{stream.name}_stream" in name]
    of_experiences = sorted(name for name in names if "_mAP_merged_Exp/" in name)
    (of_stream,) = (name for name in names if "_mAP_merged_Stream/" in name)
    return [float(found[name]) for name in (*of_experiences, of_stream)]
