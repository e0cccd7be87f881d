"""Strategies whose hyper-parameters are searched, on real digits, in fractions of a second."""

import torch
from avalanche.models import SimpleMLP, as_multitask
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin
from torch import nn, optim
from torch.utils._pytree import tree_flatten

from avalanche_mas.plugins.registry import METHODS
from avalanche_mas.training.hyperparameters import continual_hyperparameters

MAS = METHODS["MAS"]
RATES = (0.02, 0.1)


def make(method, strength=1.0, heads=False, evaluator=None, options=None):
    """A strategy with a network in which dropout makes random numbers matter."""
    RNGManager.set_random_seeds(0)
    model = SimpleMLP(2 if heads else 10, input_size=64, hidden_size=50, drop_rate=0.2)
    if heads:
        model = as_multitask(model, "classifier")
    plugins = method.plugins(
        strength if method.plugin else None, classifier="classifier", **(options or {})
    )
    return method.strategy(
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        eval_mb_size=260,
        plugins=plugins,
        evaluator=evaluator or EvaluationPlugin(loggers=[]),
    )


def options_of(name):
    return {"autoencoder_epochs": 2} if name == "EBLL" else {}


def find(strategy, benchmark, index, method=MAS, **options):
    """What is found for an experience, with few trials."""
    protects = method.plugin is not None
    return continual_hyperparameters(
        strategy,
        benchmark.train_stream[index],
        benchmark.valid_stream[index],
        set_strength=method.set_strength if protects else None,
        strength=options.pop("strength", 1e6) if protects else None,
        **{"learning_rates": RATES, "decay": 0.01, "max_trials": 4, **options},
    )


def everything(method, strategy):
    """The bits of all that is learnt, and of the random numbers."""
    found = {"answers": method.final_model(strategy).state_dict(), **vars(strategy.clock)}
    found["model"] = strategy.model.state_dict()
    found["optimizer"] = strategy.optimizer.state_dict()["state"]
    for i, plugin in enumerate(strategy.plugins):
        importance = getattr(plugin, "importance", None) or {}
        found[f"Ω {i}"] = {name: getattr(o, "data", o) for name, o in importance.items()}
    found["random"] = torch.get_rng_state()
    leaves, shape = tree_flatten(found)
    bits = [
        leaf.detach().numpy().tobytes() if isinstance(leaf, torch.Tensor) else leaf
        for leaf in leaves
    ]
    return dict(enumerate(bits)) | {"shape": shape}
