"""Every method that is compared here, by name: what it is, how it is made, what was published.

For scripts, tests and notebooks alike, with Avalanche's own plugins beside ours. ::

    method = METHODS["MAS"]
    strategy = method.strategy(model=model, optimizer=optimizer, plugins=method.plugins(1.0))
    ...  # train
    answers = method.final_model(strategy)(x)

It belongs to the package, not to the comparison scripts, which an installed package does not have.
"""

import difflib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

from avalanche.training import plugins as avalanche
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Naive
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from avalanche_mas.plugins import (
    EBLLPlugin,
    EWCPlugin,
    IMMPlugin,
    LocalMASPlugin,
    LwFPlugin,
    MASPlugin,
    SIPlugin,
)
from avalanche_mas.training import JointTraining

_LAMBDA = {"lambda_reg": 1.0}


@dataclass(frozen=True)
class Published:
    """Hyper-parameters that were published.

    :param values: arguments of the plugin, in its own units.
    :param source: who gives them, for what, and how they were converted.
    """

    values: Mapping[str, Any]
    source: str


@dataclass(frozen=True)
class Method:
    """A way to learn a stream of experiences.

    :param description: one line for people.
    :param plugin: the plugin's class; None: the strategy alone is the method.
    :param strength: the plugin's arguments that say how strongly old tasks are protected, and what
        each is for a strength of 1. They scale together: with 0 the method is finetuning.
    :param options: further arguments that make the method what it is; all else is at its default.
    :param protects: what a huge strength keeps as it was: the ``"weights"``, or the ``"outputs"``
        of the old network on the new task's data. None: nothing.
    :param grows: whether what it keeps beside the network grows with the number of tasks.
    :param merge: how the network that is evaluated is merged from the tasks' solutions, if it is.
    :param published: hyper-parameters and their sources.
    :param strategy: the Avalanche strategy that is given the plugin.
    :param kept_in: where the plugin keeps its strength, if that is not in attributes called as the
        arguments; dots lead into what the plugin holds.
    """

    description: str
    plugin: type[SupervisedPlugin] | None = None
    strength: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    protects: Literal["weights", "outputs"] | None = None
    grows: bool = False
    merge: Literal["mean", "mode"] | None = None
    published: tuple[Published, ...] = ()
    strategy: type[SupervisedTemplate] = Naive
    kept_in: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the code is."""
        code = self.plugin or self.strategy
        return f"{code.__module__}.{code.__qualname__}"

    @property
    def records(self) -> bool:
        """Whether it writes down outputs of training images, unless its ``targets`` say else."""
        return "targets" in inspect.signature(self.plugin or self.strategy).parameters

    @property
    def ours(self) -> bool:
        """Whether the code is this package's."""
        return self.source.startswith("avalanche_mas.")

    def plugins(
        self, strength: float | None = None, *, classifier: str | None = None, **options: Any
    ) -> list[SupervisedPlugin]:
        """Make fresh plugins for one strategy.

        :param strength: how strongly old tasks are protected; None if the method protects nothing.
        :param classifier: dotted name of the module that ends the network, for those methods that
            must know it and do not find it by themselves.
        :param options: further arguments of the plugin.
        :return: the plugin in a list; an empty one if the strategy alone is the method.
        :raises ValueError: if a strength or an option is missing or superfluous.
        """
        if self.plugin is None:
            if strength is not None or options:
                given = {"strength": strength, **options}
                raise ValueError(f"{self.source} has no plugin, so nothing to set: {given}")
            return []
        if strength is None:
            names = " and ".join(self.strength)
            raise ValueError(f"{self.source} needs a strength, which sets its {names}")
        arguments: dict[str, Any] = {name: unit * strength for name, unit in self.strength.items()}
        if classifier is not None and "classifier" in inspect.signature(self.plugin).parameters:
            arguments["classifier"] = classifier
        return [self.plugin(**{**arguments, **self.options, **options})]

    def set_strength(self, strategy: SupervisedTemplate, strength: float) -> None:
        """Change how strongly old tasks are protected, from the next experience on.

        :param strategy: a strategy with this method's plugin, between two experiences.
        :param strength: as for :meth:`plugins`; 0 is finetuning.
        :raises ValueError: if it is out of range, or if the strategy does not have one such plugin.
        """
        found = [plugin for plugin in strategy.plugins if type(plugin) is self.plugin]
        if len(found) != 1:
            raise ValueError(f"the strategy has {len(found)} plugins of {self.source}, not one")
        (fresh,) = self.plugins(strength)  # refuses a strength, and has it in its own form
        for path in self.kept_in or self.strength:
            owner, _, name = path.rpartition(".")
            holder = attrgetter(owner)(found[0]) if owner else found[0]
            setattr(holder, name, attrgetter(path)(fresh))

    def final_model(self, strategy: SupervisedTemplate) -> nn.Module:
        """The network that answers between experiences.

        :param strategy: a strategy with this method's plugin that has learnt an experience.
        :return: the network being trained, or a merged copy of it.
        """
        if self.merge is None:
            trained: nn.Module = strategy.model
            return trained
        (plugin,) = (p for p in strategy.plugins if isinstance(p, IMMPlugin))
        return plugin.merged(self.merge)


class UnknownMethodError(KeyError):
    """No method is called so."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Methods(dict[str, Method]):
    """Methods by name, with a word of help for other names."""

    def __missing__(self, name: str) -> Method:
        """:raises UnknownMethodError: with the nearest name."""
        lower = {known.lower(): known for known in self}
        near = difflib.get_close_matches(str(name).lower(), lower, n=1)
        hint = f" Did you mean {lower[near[0]]!r}?" if near else ""
        raise UnknownMethodError(
            f"no method is called {name!r}.{hint} There are {', '.join(self)}."
        )


_EWC = Published(
    {"lambda_reg": 800.0},
    "De Lange et al., TPAMI 2021, start from 400 for a penalty without the ½.",
)
_IMM = Published(
    {"lambda_reg": 0.02},
    "De Lange et al., TPAMI 2021, start L2-transfer from 0.01 for a penalty without the ½.",
)

METHODS: dict[str, Method] = _Methods()
"""All methods by name: ours, Avalanche's, and the two that they are held against."""

METHODS |= {
    # References.
    "finetuning": Method(
        "trains on one experience after the other and protects nothing: the lower bound"
    ),
    "joint": Method(
        "trains once on all experiences together: not continual, the upper bound",
        strategy=JointTraining,
    ),
    # This package's. Importance of weights first.
    "MAS": Method(
        "memory aware synapses: importance is the sensitivity of the network's output",
        MASPlugin,
        _LAMBDA,
        protects="weights",
        published=(
            Published(
                {"lambda_reg": 1.0},
                "Aljundi et al., ECCV 2018, object recognition. Their code's λ has twice the "
                "effect of their Eq. 3, which is what counts here.",
            ),
            Published({"lambda_reg": 5.0}, "Aljundi et al., ECCV 2018, fact learning on 6DS."),
        ),
    ),
    "LocalMAS": Method(
        "l-MAS, its local variant: importance of each layer by itself, by Hebb's rule",
        LocalMASPlugin,
        _LAMBDA,
        protects="weights",
    ),
    "EWC": Method(
        "elastic weight consolidation: Fisher information, a penalty around each task's solution",
        EWCPlugin,
        _LAMBDA,
        protects="weights",
        published=(_EWC,),
    ),
    "OnlineEWC": Method(
        "the same with one penalty, around the latest solution",
        EWCPlugin,
        _LAMBDA,
        {"mode": "online"},
        protects="weights",
    ),
    "SI": Method(
        "synaptic intelligence: importance is each weight's share in the fall of the loss",
        SIPlugin,
        _LAMBDA,
        protects="weights",
        published=(
            Published(
                {"lambda_reg": 2.0, "xi": 1e-3},
                "Zenke et al., ICML 2017, split MNIST: c = 1, and λ = 2c here.",
            ),
            Published(
                {"lambda_reg": 0.2, "xi": 0.1},
                "Zenke et al., ICML 2017, permuted MNIST: c = 0.1, and λ = 2c here.",
            ),
        ),
    ),
    "LwF": Method(
        "learning without forgetting: old outputs on the new task's data are distilled",
        LwFPlugin,
        {"alpha": 1.0},
        protects="outputs",
        published=(
            Published({"alpha": 1.0, "temperature": 2.0}, "Li & Hoiem, ECCV 2016: λ_o = 1, T = 2."),
        ),
    ),
    "EBLL": Method(
        "encoder based lifelong learning: LwF, and codes of the shared features are kept",
        EBLLPlugin,
        {"alpha": 1.0, "code_alpha": 0.1},
        protects="outputs",
        grows=True,
        published=(
            Published(
                {"alpha": 1.0, "temperature": 2.0, "code_alpha": 0.1},
                "the code that Rannen et al., ICCV 2017, released.",
            ),
        ),
    ),
    "meanIMM": Method(
        "incremental moment matching: the mean of the tasks' solutions is evaluated",
        IMMPlugin,
        _LAMBDA,
        {"fisher": None},
        protects="weights",
        grows=True,
        merge="mean",
        published=(_IMM,),
    ),
    "modeIMM": Method(
        "the same with the mode of their Gaussian mixture, by Fisher information",
        IMMPlugin,
        _LAMBDA,
        protects="weights",
        grows=True,
        merge="mode",
        published=(_IMM,),
    ),
    # Avalanche's, as they are.
    "AvalancheEWC": Method(
        "EWC; Fisher information of mini-batches, and one penalty more with each task",
        avalanche.EWCPlugin,
        {"ewc_lambda": 1.0},
        protects="weights",
        grows=True,
    ),
    "AvalancheSI": Method(
        "SI",
        avalanche.SynapticIntelligencePlugin,
        {"si_lambda": 1.0},
        protects="weights",
    ),
    "AvalancheLwF": Method(
        "LwF; the old network answers in train mode",
        avalanche.LwFPlugin,
        {"alpha": 1.0},
        protects="outputs",
        kept_in=("lwf.alpha",),
        published=(Published({"alpha": 1.0, "temperature": 2.0}, "Avalanche's defaults."),),
    ),
    "AvalancheMAS": Method(
        "MAS; importance of mini-batches, and λ has twice the effect of ours",
        avalanche.MASPlugin,
        _LAMBDA,
        protects="weights",
        kept_in=("_lambda",),
        published=(Published({"lambda_reg": 1.0, "alpha": 0.5}, "Avalanche's defaults."),),
    ),
}

_BUILT_IN = frozenset(METHODS)


def register(name: str, method: Method) -> None:
    """Give :data:`METHODS` a method of one's own, for all that know methods by name. ::

        register("L2", Method("all weights are equal", L2Plugin, {"lambda_reg": 1.0}))
        compare_methods(benchmark, make_model, methods=("finetuning", "MAS", "L2"))

    One that was registered before under this name is replaced.

    :param name: letters, digits, and ``. + - _`` or spaces; not a name of this package's methods.
    :param method: what it is.
    :raises TypeError: if it is no method.
    :raises ValueError: if the name is taken, or has other characters.
    """
    if not isinstance(method, Method):
        raise TypeError(f"method is a {type(method).__name__}: give Method(description, plugin, …)")
    if not re.fullmatch(r"[\w.+-]+( [\w.+-]+)*", name):
        raise ValueError(f"name is {name!r}: give letters, digits, and . + - _ or spaces between")
    if name in _BUILT_IN:
        raise ValueError(f"name is {name!r}, which is a method of this package: take another")
    METHODS[name] = method
