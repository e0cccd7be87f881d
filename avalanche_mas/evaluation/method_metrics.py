"""What a method does while a strategy trains, as metrics of Avalanche: its penalty and memory.

Give them to an ``EvaluationPlugin``; every logger of Avalanche takes them but its ``CSVLogger``,
which knows accuracy, loss and forgetting only: use :class:`.ScalarCSVLogger`. ::

    evaluator = EvaluationPlugin(
        PenaltyValue(), PenaltyShares(), FreeParameters(), MethodMemory(),
        loggers=[TextLogger(), TensorboardLogger("runs"), ScalarCSVLogger("metrics.csv")],
    )
    strategy = Naive(..., plugins=[MASPlugin()], evaluator=evaluator)

Their names have no task and no experience, so that each is one curve over the whole run, with the
number of training iterations across.
"""

from typing import Literal

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import get_metric_name
from avalanche.training.templates import SupervisedTemplate

from avalanche_mas.evaluation.free_parameters import free_fraction
from avalanche_mas.evaluation.memory import method_memory
from avalanche_mas.importance.standard_error import layer_of
from avalanche_mas.penalty.quadratic import QuadraticPenalty
from avalanche_mas.plugins.base.regularization import RegularizationPlugin


def penalties_of(strategy: SupervisedTemplate) -> list[QuadraticPenalty]:
    """The quadratic penalties that act on a strategy's model now.

    :param strategy: with a plugin of this package that has such a penalty, or with several.
    :return: the penalties; none of a plugin that has measured no importance yet.
    :raises ValueError: if there is no such plugin.
    """
    plugins = [plugin for plugin in strategy.plugins if isinstance(plugin, RegularizationPlugin)]
    if not plugins:
        given = ", ".join(type(plugin).__name__ for plugin in strategy.plugins)
        raise ValueError(
            "metrics of the penalty need a plugin of avalanche_mas with a quadratic penalty, such "
            f"as MASPlugin, EWCPlugin or SIPlugin; this strategy has {given}. Add one, or leave "
            "these metrics out"
        )
    return [plugin.penalty for plugin in plugins if plugin.penalty is not None]


class _Metric(PluginMetric[float]):  # type: ignore[misc]
    """Emits numbers whose names say no more than the metric and the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Forget the latest value."""
        self._latest = float("nan")

    def result(self) -> float:
        """The latest value; NaN before the first."""
        return self._latest

    def _emit(self, strategy: SupervisedTemplate, value: float, within: str = "") -> MetricValue:
        self._latest = value
        name = get_metric_name(f"{self}{within}", strategy, add_task=False)
        return MetricValue(self, name, value, strategy.clock.train_iterations)


class PenaltyValue(_Metric):
    """(λ/2) Σ Ω (θ−θ*)² (Eq. 3 of Aljundi et al., ECCV 2018), in the unit of the loss.

    It is taken at the parameters after the step, and includes what no parameter moves, such as
    what is left of EWC's separate penalties. Before the first importance is measured it is 0. Of
    several plugins it is the sum.

    The names are ``Penalty_Epoch/train_phase/train_stream``, and ``Penalty_MB/...`` as Avalanche's
    own of mini-batches.

    :param per: ``"epoch"``: at the end of each; or ``"iteration"``, which reads all parameters
        once more in each of them.
    :raises ValueError: for another ``per``; before training, if no plugin has a penalty.
    """

    def __init__(self, per: Literal["epoch", "iteration"] = "epoch") -> None:
        if per not in ("epoch", "iteration"):
            raise ValueError(f"per must be 'epoch' or 'iteration', got {per!r}")
        super().__init__()
        self.per = per

    def before_training(self, strategy: SupervisedTemplate) -> None:
        """Refuse a strategy without a penalty."""
        penalties_of(strategy)

    def after_training_iteration(self, strategy: SupervisedTemplate) -> MetricValue | None:
        """The value after one step, if asked for."""
        return self._value(strategy) if self.per == "iteration" else None

    def after_training_epoch(self, strategy: SupervisedTemplate) -> MetricValue | None:
        """The value at the end of an epoch, if asked for."""
        return self._value(strategy) if self.per == "epoch" else None

    def __str__(self) -> str:
        return "Penalty_Epoch" if self.per == "epoch" else "Penalty_MB"

    def _value(self, strategy: SupervisedTemplate) -> MetricValue:
        total = sum(float(penalty.value()) for penalty in penalties_of(strategy))
        return self._emit(strategy, float(total))


class PenaltyShares(_Metric):
    """Which layers strain against the penalty: each layer's share of it at the end of an epoch.

    A layer is the module that owns the parameters. The shares are in [0, 1] and add up to 1. While
    the penalty is 0, as in the first experience, there are none. The name is
    ``Penalty_Share_Epoch/features.0/train_phase/train_stream`` for the layer ``features.0``.

    :raises ValueError: before training, if no plugin has a penalty.
    """

    def before_training(self, strategy: SupervisedTemplate) -> None:
        """Refuse a strategy without a penalty."""
        penalties_of(strategy)

    def after_training_epoch(self, strategy: SupervisedTemplate) -> list[MetricValue]:
        """A value for each layer."""
        layers: dict[str, float] = {}
        for penalty in penalties_of(strategy):
            for name, value in penalty.by_parameter().items():
                layers[layer_of(name)] = layers.get(layer_of(name), 0.0) + float(value)
        total = sum(layers.values())
        if not total:
            return []
        return [self._emit(strategy, part / total, f"/{layer}") for layer, part in layers.items()]

    def __str__(self) -> str:
        return "Penalty_Share_Epoch"


class FreeParameters(_Metric):
    """The fraction of the parameters that the next experience can still move: ηλΩN ≤ 1.

    Measured after each experience, with the importance of all so far, see :func:`.free_fraction`,
    which explains the bound. η is the optimizer's step as it is then. The name is
    ``Free_Parameters/train_phase/train_stream``.

    :param iterations: N, the steps that the next experience will take; None: as many as the one
        that has just ended.
    :raises ValueError: if ``iterations`` is not positive; before training, if no plugin has a
        penalty.
    :raises TypeError: after training, for another optimizer than SGD, Adam or AdamW.
    """

    def __init__(self, iterations: int | None = None) -> None:
        if iterations is not None and iterations < 1:
            raise ValueError(f"iterations must be positive, got {iterations}")
        super().__init__()
        self.iterations = iterations

    def before_training(self, strategy: SupervisedTemplate) -> None:
        """Refuse a strategy without a penalty, or an optimizer whose step is not known."""
        free_fraction(strategy.model, penalties_of(strategy), strategy.optimizer, 0)

    def after_training_exp(self, strategy: SupervisedTemplate) -> MetricValue:
        """The fraction that is free from now on."""
        n = self.iterations or strategy.clock.train_exp_iterations
        penalties = penalties_of(strategy)
        return self._emit(strategy, free_fraction(strategy.model, penalties, strategy.optimizer, n))

    def __str__(self) -> str:
        return "Free_Parameters"


class MethodMemory(_Metric):
    """Bytes that the strategy's plugins keep beside the model, see :func:`.method_memory`.

    Measured after each experience, for any plugin. The name is
    ``Method_Memory/train_phase/train_stream``.
    """

    def after_training_exp(self, strategy: SupervisedTemplate) -> MetricValue:
        """What is kept from now on."""
        return self._emit(strategy, method_memory(strategy))

    def __str__(self) -> str:
        return "Method_Memory"
