"""Every method that the experiments compare, in one registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from avalanche.training.plugins import (
    EWCPlugin,
    LwFPlugin,
    SupervisedPlugin,
    SynapticIntelligencePlugin,
)
from avalanche.training.plugins import MASPlugin as AvalancheMASPlugin
from avalanche.training.supervised import JointTraining, Naive
from avalanche.training.templates import SupervisedTemplate

from avalanche_mas import LocalMASPlugin, MASPlugin


@dataclass(frozen=True)
class Method:
    """A way to learn a stream of experiences.

    :param description: one line for people.
    :param source: where the code is.
    :param make: makes fresh plugins of strength λ; None: no plugins, so no λ.
    :param strategy: the Avalanche strategy that is given the plugins.
    """

    description: str
    source: str
    make: Callable[[float], list[SupervisedPlugin]] | None = None
    strategy: type[SupervisedTemplate] = Naive

    @property
    def has_lambda(self) -> bool:
        """Whether there is a strength λ to choose."""
        return self.make is not None

    def plugins(self, lam: float | None) -> list[SupervisedPlugin]:
        """Make fresh plugins.

        :param lam: the strength λ, or None if the method has none.
        :raises ValueError: if a λ is missing or superfluous.
        """
        if self.make is not None and lam is not None:
            return self.make(lam)
        if self.make is None and lam is None:
            return []
        raise ValueError(f"λ is {lam}: {self.source} {'needs one' if self.make else 'has none'}")


METHODS: dict[str, Method] = {
    "finetuning": Method(
        "trains on one experience after the other and protects nothing: the lower bound",
        "avalanche.training.Naive",
    ),
    "joint": Method(
        # With task labels Avalanche fills mini-batches evenly from all tasks and repeats samples
        # of the smaller ones. Tasks here have almost equal sizes, so hardly any is repeated.
        "trains once on all experiences together: not continual, the upper bound",
        "avalanche.training.JointTraining",
        strategy=JointTraining,
    ),
    "AvalancheEWC": Method(
        "elastic weight consolidation, a separate penalty for each experience",
        "avalanche.training.plugins.EWCPlugin",
        lambda lam: [EWCPlugin(lam)],
    ),
    "AvalancheSI": Method(
        "synaptic intelligence",
        "avalanche.training.plugins.SynapticIntelligencePlugin",
        lambda lam: [SynapticIntelligencePlugin(lam)],
    ),
    "AvalancheLwF": Method(
        "learning without forgetting; its strength is called α, the temperature is 2",
        "avalanche.training.plugins.LwFPlugin",
        lambda lam: [LwFPlugin(lam)],
    ),
    "AvalancheMAS": Method(
        "Avalanche's memory aware synapses; its λ has twice the effect of ours",
        "avalanche.training.plugins.MASPlugin",
        lambda lam: [AvalancheMASPlugin(lam)],
    ),
    "MAS": Method(
        "memory aware synapses as in the paper, λ of its Eq. 3, all else at its default",
        "avalanche_mas.MASPlugin",
        lambda lam: [MASPlugin(lam)],
    ),
    "LocalMAS": Method(
        "the paper's local variant l-MAS, λ of its Eq. 3, all else at its default",
        "avalanche_mas.LocalMASPlugin",
        lambda lam: [LocalMASPlugin(lam)],
    ),
}
