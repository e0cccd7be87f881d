"""Memory Aware Synapses as Avalanche plugins (Aljundi et al., ECCV 2018): MAS and l-MAS."""

import warnings
from typing import Any, Literal

from torch import nn

from avalanche_mas.importance import (
    Importance,
    estimate_importance,
    estimate_local_importance,
)
from avalanche_mas.importance.batches import Forward
from avalanche_mas.importance.engines.base import EngineName
from avalanche_mas.importance.estimate import check_engine
from avalanche_mas.importance.gathering import Mean
from avalanche_mas.importance.watch import LocalMean, global_mean
from avalanche_mas.plugins.base.measured import MeasuredPlugin, Streams


class MASPlugin(MeasuredPlugin):
    r"""Memory Aware Synapses: importance is the sensitivity of the network's output.

    .. math::
        \Omega_{ij} = \frac{1}{N} \sum_{k=1}^{N}
        \left| \frac{\partial \|F(x_k; \theta)\|_2^2}{\partial \theta_{ij}} \right|

    .. math::
        L(\theta) = L_{\text{task}}(\theta) + \frac{\lambda}{2} \sum_{i,j}
        \Omega_{ij} (\theta_{ij} - \theta^*_{ij})^2

    (Eq. 2 and 3 of Aljundi et al., ECCV 2018).
    ``Naive(model=model, optimizer=optimizer, plugins=[MASPlugin()])`` is the paper's method: Ω is
    exact, measured in eval mode without labels, and summed over tasks; the penalty is Eq. 3's.

    ``MASPlugin(lambda_reg, alpha)`` as for Avalanche's own plugin is understood and translated,
    with a warning.

    :param lambda_reg: λ of Eq. 3. The authors' code and Avalanche have no ½: their λ is half of it.
    :param alpha: Avalanche's name for the decay of old importance; do not use it in new code.
    :param streams: on which data Ω is measured, see :class:`MeasuredPlugin`.
    :param output: ``"norm"`` or ``"vector"``, see :func:`~avalanche_mas.estimate_importance`.
    :param accumulate: ``"sum"``, ``"mean"`` or a decay in (0, 1).
    :param step: ``"auto"``, ``"proximal"`` or ``"gradient"``.
    :param forward: how a batch goes through the model, see :class:`MeasuredPlugin`.
    :param engine: how Ω is computed, see :func:`~avalanche_mas.estimate_importance`.
    :param batch_size: samples per batch of the measurement.
    :param num_workers: loader processes of the measurement.
    :param max_samples: use at most so many samples per experience and stream.
    :param initial: importance measured before the first experience.
    :param verbose: show a progress bar while measuring.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        lambda_reg: float = 1.0,
        alpha: float | None = None,
        *,
        streams: Streams | None = "train",
        output: Literal["norm", "vector"] = "norm",
        accumulate: Literal["sum", "mean"] | float = "sum",
        step: Literal["auto", "proximal", "gradient"] = "auto",
        engine: EngineName = "auto",
        forward: Forward | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        max_samples: int | None = None,
        initial: Importance | None = None,
        verbose: bool = False,
    ) -> None:
        if alpha is not None and accumulate != "sum":
            raise ValueError(f"alpha={alpha} and accumulate={accumulate!r} are the same: give one")
        if alpha is not None:
            lambda_reg, accumulate = _from_avalanche(lambda_reg, alpha)
        super().__init__(
            lambda_reg,
            streams=streams,
            accumulate=accumulate,
            step=step,
            forward=forward,
            batch_size=batch_size,
            num_workers=num_workers,
            max_samples=max_samples,
            initial=initial,
            verbose=verbose,
        )
        check_engine(output, engine)
        if output not in ("norm", "vector"):
            raise ValueError(f"output must be 'norm' or 'vector', got {output!r}")
        self.output, self.engine = output, engine

    def measure(
        self, model: nn.Module, data: Any, forward: Forward | None, batch_size: int
    ) -> Importance:
        """Ω of ``data`` by Eq. 2."""
        return estimate_importance(
            model,
            data,
            forward=forward,
            output=self.output,
            engine=self.engine,
            batch_size=batch_size,
            num_workers=self.num_workers,
            verbose=self.verbose,
        )

    def _running(self, model: nn.Module) -> Mean:
        if self.engine not in ("auto", "exact"):
            return super()._running(model)
        return global_mean(model, self.output)


class LocalMASPlugin(MeasuredPlugin):
    """l-MAS: importance of each layer by itself, from forward passes only.

    For a ReLU layer Ω_ij is the mean of y_j y_i, Hebb's rule (Eq. 7); the factor 2 of the
    derivative ∂‖F_l‖²/∂θ_l is dropped as there, so the same λ protects half as strongly as with the
    derivative itself. Parameters outside linear, convolutional, normalisation and embedding layers
    are not protected, and a warning names them.

    Parameters are those of :class:`MeasuredPlugin`.
    """

    def measure(
        self, model: nn.Module, data: Any, forward: Forward | None, batch_size: int
    ) -> Importance:
        """Ω of ``data`` by Eq. 7."""
        return estimate_local_importance(
            model,
            data,
            forward=forward,
            batch_size=batch_size,
            num_workers=self.num_workers,
            verbose=self.verbose,
        )

    def _running(self, model: nn.Module) -> Mean:
        return LocalMean(model)


def _from_avalanche(lambda_reg: float, alpha: float) -> tuple[float, float]:
    """Avalanche's penalty is λΣΩΔ² with Ω = αΩ_old + (1−α)Ω_new."""
    warnings.warn(
        f"MASPlugin(lambda_reg={lambda_reg}, alpha={alpha}) is Avalanche's signature. Its penalty "
        f"has no 1/2, so it is read as lambda_reg={2 * lambda_reg} of Eq. 3, and alpha as "
        f"accumulate={alpha}, a decay. The paper adds importances up: MASPlugin({2 * lambda_reg}). "
        "Avalanche's importance is also too small by a factor that depends on its batch size.",
        stacklevel=3,
    )
    return 2 * lambda_reg, alpha
