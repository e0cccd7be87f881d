"""Trains every method up to a checkpoint and goes on from there: a process of its own runs this.

A module, because dill stores classes of ``__main__`` by value.
"""

from pathlib import Path

import torch
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.training.determinism.rng_manager import RNGManager
from every_method import OURS, Features, ManyHeads, make
from tiny_avalanche import split
from torch import nn

STOP = 1  # experiences before the checkpoint; two more show that what is restored adds up

# Large enough for a lost anchor, Ω, teacher or encoder to change the weights.
STRENGTH = 10.0


def strategy_of(name):
    """As a script makes it at its start: same seed, dropout on, shuffled data."""
    RNGManager.set_random_seeds(0)
    model = ManyHeads(Features(nn.BatchNorm1d(16), nn.Dropout(0.2)))
    return make(OURS[name], model, STRENGTH)


def state(name, strategy):
    """What must not depend on an interruption, the evaluated network included."""
    trained = strategy.model.state_dict()
    evaluated = OURS[name].final_model(strategy).state_dict()
    return {**trained, **{f"evaluated {key}": value for key, value in evaluated.items()}}


def stream():
    """Three tasks with a head each."""
    return split(3, task_labels=True).train_stream


def uninterrupted(name):
    """Train everything at once."""
    strategy = strategy_of(name)
    for experience in stream():
        strategy.train(experience)
    return state(name, strategy)


def save(name, folder):
    """Train up to the checkpoint."""
    strategy = strategy_of(name)
    for experience in stream()[:STOP]:
        strategy.train(experience)
    save_checkpoint(strategy, str(Path(folder, f"{name}.checkpoint")))


def resume_all(folder):
    """Go on from every checkpoint, and write what comes of it."""
    for name in OURS:
        strategy, start = maybe_load_checkpoint(
            strategy_of(name), str(Path(folder, f"{name}.checkpoint"))
        )
        assert start == STOP, f"{name}: experience {start} is next"
        for experience in stream()[start:]:
            strategy.train(experience)
        torch.save(state(name, strategy), Path(folder, f"{name}.weights"))
