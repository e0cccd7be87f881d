"""A script as users write it, which may be killed at any moment and is then started again.

A module, because dill stores classes of ``__main__`` by value. It learns real handwriting with any
method of the registry; dropout, BatchNorm, shuffling and momentum would all show a state that is
not quite what it was.
"""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import torch
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics, loss_metrics
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn, optim

from avalanche_mas.benchmarks import split_digits
from avalanche_mas.evaluation import AccuracyMatrix
from avalanche_mas.plugins.registry import METHODS
from avalanche_mas.training.checkpoint import maybe_load_checkpoint, save_checkpoint

METHODS_OF_OURS = [name for name, method in METHODS.items() if method.ours and method.plugin]
EXPERIENCES = 4
CHECKPOINT = "run.checkpoint"

# A strength that a lost anchor, Ω, teacher or encoder would show; and options that keep it short.
STRENGTH = 10.0
OPTIONS = {"LwF": {"warmup_epochs": 1}, "EBLL": {"warmup_epochs": 1, "autoencoder_epochs": 3}}


class Net(MultiTaskModule):
    """Two layers and a head for each task; with ``ballast`` it takes a while to be written."""

    def __init__(self, ballast=0):
        super().__init__()
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)
        )
        self.classifier = MultiHeadClassifier(16, initial_out_features=2)
        self.register_buffer("ballast", torch.ones(ballast))

    def forward(self, x, task_labels):
        return self.classifier(self.features(x), task_labels)


def strategy_of(name, ballast=0):
    """As a script makes it at its start."""
    RNGManager.set_random_seeds(0)
    model = Net(ballast)
    sgd = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    adam = optim.Adam(model.parameters(), lr=0.002)
    metrics = (
        accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        loss_metrics(epoch=True, experience=True),
        forgetting_metrics(experience=True, stream=True),
    )
    return Naive(
        model=model,
        optimizer=adam if name in ("LocalMAS", "OnlineEWC", "SI") else sgd,
        train_mb_size=40,
        eval_mb_size=128,
        train_epochs=1,
        plugins=METHODS[name].plugins(STRENGTH, **OPTIONS.get(name, {})),
        evaluator=EvaluationPlugin(*metrics, AccuracyMatrix(), loggers=[]),
    )


def run(name, folder, ballast=0):
    """Start, or go on; at the end write what came of it as checksums."""
    path = Path(folder, CHECKPOINT)
    benchmark = split_digits()
    strategy, start = maybe_load_checkpoint(strategy_of(name, ballast), path)
    for experience in benchmark.train_stream[start:EXPERIENCES]:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream[:EXPERIENCES])
        save_checkpoint(strategy, path)
    Path(folder, "result.json").write_text(json.dumps(result(name, strategy)), encoding="utf-8")


def result(name, strategy):
    """Everything that must not depend on an interruption → checksum of its bits."""
    (plugin,) = (p for p in strategy.plugins if isinstance(p, METHODS[name].plugin))
    (matrix,) = (m for m in strategy.evaluator.metrics if isinstance(m, AccuracyMatrix))
    everything = {
        "model": strategy.model.state_dict(),
        "evaluated": METHODS[name].final_model(strategy).state_dict(),
        "plugin": plugin.state_dict(),
        "optimizer": strategy.optimizer.state_dict(),
        "metrics": strategy.evaluator.get_all_metrics(),
        "last metrics": strategy.evaluator.get_last_metrics(),
        "matrix": matrix.result(),
        "random": [torch.get_rng_state(), np.random.get_state(), random.getstate()],
        "clock": vars(strategy.clock),
    }
    return dict(checksums("", everything))


def checksums(path, value):
    """Name → SHA-256 of each leaf."""
    if isinstance(value, dict):
        for key in value:
            yield from checksums(f"{path}/{key}", value[key])
    elif isinstance(value, (list, tuple)) and len(value) < 50:
        for i, item in enumerate(value):
            yield from checksums(f"{path}/{i}", item)
    else:
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        bits = (
            repr((value.dtype, value.shape)).encode() + value.tobytes()
            if isinstance(value, np.ndarray)
            else repr(value).encode()
        )
        yield path, hashlib.sha256(bits).hexdigest()
