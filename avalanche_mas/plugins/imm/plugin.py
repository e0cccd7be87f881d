"""Incremental moment matching as an Avalanche plugin (Lee et al., NIPS 2017)."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avalanche_mas.importance import Importance
from avalanche_mas.importance.batches import Forward
from avalanche_mas.importance.parameters import (
    canonical_name,
    grow,
    named_parameters,
    wide_dtype,
)
from avalanche_mas.penalty.quadratic import QuadraticPenalty
from avalanche_mas.plugins.base.arguments import check_counts, check_forward
from avalanche_mas.plugins.base.measured import Streams
from avalanche_mas.plugins.base.regularization import RegularizationPlugin
from avalanche_mas.plugins.base.state import State, check_fits, tensors
from avalanche_mas.plugins.base.streams import (
    StreamBatches,
    StreamSource,
    in_eval_mode,
    own_forward,
)
from avalanche_mas.plugins.ewc.fisher import (
    Likelihood,
    check_fisher,
    estimate_fisher,
    log_likelihood,
)
from avalanche_mas.plugins.imm.merging import mean_merge, mode_merge


class IMMPlugin(RegularizationPlugin):
    """Learns each task from the solution of the one before, and merges all solutions when asked to.

    Training starts from the last solution (weight-transfer, section 4.1 of the paper) and stays
    near to it (L2-transfer, section 4.2): the loss is L_task + (λ/2) ‖θ−θ_{t−1}‖², over all
    parameters that an earlier task has trained. After each task θ_t is kept, and F_t, the diagonal
    Fisher information on that task's data. :meth:`merged` gives a copy of the model with all
    solutions in one, see :mod:`.imm.merging`. It can be had and evaluated after every task:
    training goes on from the unmerged model, which is never written to.

    Memory grows with every task: by the parameters that the task has trained, and by as much again
    for their Fisher information, which ``fisher=None`` saves.

    :param lambda_reg: λ. The paper's penalty has no ½, so its λ is half of this one. The default
        is 0.01 in that unit, from which De Lange et al. (TPAMI 2021) start.
    :param fisher: how F is measured, see :mod:`.ewc.fisher`: by the expectation over the model's
        own predictions, ``"expected"``, which is the F of the paper, or by one prediction drawn for
        each sample, ``"sampled"``, which is cheaper with many classes. Labels are never read.
        None: not at all; then there is mean-IMM, but no mode-IMM.
    :param likelihood: ``"categorical"``, or ``"gaussian"`` for regression, see
        :func:`~avalanche_mas.plugins.ewc.fisher.estimate_fisher`.
    :param streams: on which data F is measured, as for :class:`.MeasuredPlugin`.
    :param step: ``"auto"``, ``"proximal"`` or ``"gradient"``, see :class:`.RegularizationPlugin`.
    :param forward: how a batch goes through the model, see :class:`.MeasuredPlugin`.
    :param batch_size: samples per batch of the measurement; None for the strategy's
        ``eval_mb_size``, but at least 32. It does not change the result.
    :param num_workers: loader processes of the measurement.
    :param max_samples: use at most so many samples per experience and stream, a fixed random
        subset.
    :param verbose: show a progress bar while measuring.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        lambda_reg: float = 0.02,
        *,
        fisher: Literal["expected", "sampled"] | None = "expected",
        likelihood: Likelihood = "categorical",
        streams: Streams = "train",
        step: Literal["auto", "proximal", "gradient"] = "auto",
        forward: Forward | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        max_samples: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(lambda_reg, step=step)
        check_counts(batch_size=batch_size, max_samples=max_samples)
        check_counts(0, num_workers=num_workers)
        if fisher not in ("expected", "sampled", None):
            raise ValueError(f"fisher must be 'expected', 'sampled' or None, got {fisher!r}")
        check_fisher(fisher or "expected", likelihood)
        self.fisher, self.likelihood = fisher, likelihood
        check_forward(forward)
        self.forward = forward
        self.source = StreamSource(streams, num_workers, max_samples)
        self.batch_size = batch_size
        self.verbose = verbose
        self.solutions: list[dict[str, Tensor]] = []
        """θ_t of each task: the parameters that it has trained, and the buffers it has changed."""
        self.fishers: list[dict[str, Tensor]] = []
        """F_t of each task, of the parameters that it has trained; empty with ``fisher=None``."""
        self._parameters: dict[str, nn.Parameter] = {}
        self._trained: set[str] = set()  # by the present task
        self._statistics: dict[str, Tensor] = {}  # as they were before the present task

    def merged(
        self,
        mode: Literal["mean", "mode"] = "mean",
        upto: int | None = None,
        *,
        ratios: Sequence[float] | None = None,
    ) -> nn.Module:
        """A copy of the model that solves several tasks: its parameters are the merged solutions.

        A parameter is merged over the tasks that have trained it, that is, in which it had a
        gradient. So heads are not merged: each is its own task's. New units of a parameter that
        grew are merged over the tasks that knew them. What no task has trained, such as a frozen
        layer, is the model's.

        The paper says nothing of BatchNorm. Its running mean and variance, like other buffers of
        floating-point numbers, are averaged with the same ratios over the tasks that changed them,
        in both modes. Buffers of integers are the model's.

        :param mode: ``"mean"`` for mean-IMM, ``"mode"`` for mode-IMM.
        :param upto: merge the first so many tasks; None for all.
        :param ratios: α, how much each task counts: positive numbers with sum 1; None for equal
            ones.
        :return: a copy of the model last trained, without wrappers such as
            ``DistributedDataParallel``. It shares no memory with it.
        :raises RuntimeError: before the first task has ended, or if the model is not known.
        :raises ValueError: for an unknown mode, mode-IMM without Fisher information, ``upto`` out
            of range or wrong ratios.
        """
        if mode not in ("mean", "mode"):
            raise ValueError(f"mode must be 'mean' or 'mode', got {mode!r}")
        if mode == "mode" and self.fisher is None:
            raise ValueError("mode='mode' needs the Fisher information, but fisher is None")
        if not self.solutions:
            raise RuntimeError("no task has ended yet, so there is nothing to merge: train first")
        if self._model is None:
            raise RuntimeError(
                "the solutions were loaded without their model: pass it to load_state_dict"
            )
        upto = len(self.solutions) if upto is None else upto
        if not 1 <= upto <= len(self.solutions):
            raise ValueError(f"upto must lie between 1 and {len(self.solutions)} tasks, got {upto}")
        solutions = self.solutions[:upto]
        if mode == "mean":
            merged = mean_merge(solutions, ratios)
        else:
            merged = mode_merge(solutions, self.fishers[:upto], ratios)
        model = copy.deepcopy(self._model)
        state = {**named_parameters(model), **_statistics(model)}
        with torch.no_grad():
            for name in merged.keys() & state.keys():
                known = tuple(slice(size) for size in merged[name].shape)
                state[name][known] = merged[name].to(state[name])
        return model

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Finds the data that will be measured, or fails before anything is trained."""
        if self.fisher is not None:
            self.source.check(strategy.experience)
            self._batches(strategy).check(self._measured)
        super().before_training_exp(strategy, **kwargs)
        self._parameters = named_parameters(strategy.model)
        now = _statistics(strategy.model)
        known = self._statistics  # not empty within an online stream's experience
        self._statistics = {n: known[n] if n in known else b.clone() for n, b in now.items()}

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Notes which parameters this task trains; then as every penalty."""
        self._trained.update(n for n, p in self._parameters.items() if p.grad is not None)
        super().before_update(strategy, **kwargs)

    def prime(
        self,
        model: nn.Module,
        data: Any,
        *,
        forward: Forward | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Takes a pretrained network as the solution of a task.

        :param model: the model that the strategy will train; all its trainable parameters count as
            trained by that task.
        :param data: the task's samples, for F; as for :func:`~avalanche_mas.estimate_importance`.
        :param forward: how a batch goes through the model; None for the plugin's own, or else
            ``model(x)``.
        :param batch_size: samples per batch where ``data`` is a dataset; None for the plugin's own,
            or else 64.
        """
        self._check_model(model)
        self._statistics = {}
        self._trained = {n for n, p in named_parameters(model).items() if p.requires_grad}
        batch_size = batch_size or self.batch_size or 64
        self._measure(model, in_eval_mode(data), forward or self.forward, batch_size)
        self._protect(model, self._near(model))

    def importance_of_task(self, strategy: Any) -> Importance:
        """Measures F_t; Ω, that of L2-transfer, is 1 for what tasks have trained, 0 for new units.

        A parameter that no task has trained is free.
        """
        batches = self._batches(strategy)
        self._measure(strategy.model, batches, batches.forward, batches.batch_size)
        return self._near(strategy.model)

    @property
    def streams(self) -> list[str] | Callable[[Any], Any]:
        """On which data F is measured."""
        return self.source.streams

    @property
    def num_workers(self) -> int:
        """Loader processes of the measurement."""
        return self.source.num_workers

    @property
    def max_samples(self) -> int | None:
        """The upper limit for the samples of each experience and stream."""
        return self.source.max_samples

    def _batches(self, strategy: Any) -> StreamBatches:
        """The samples that the experience is measured on."""
        forward = self.forward or own_forward(strategy)
        return StreamBatches(self.source, strategy, self.batch_size, forward)

    def _measured(self, forward: Forward) -> Forward:
        return log_likelihood(forward, self.fisher or "expected", self.likelihood)

    def _state(self) -> State:
        return {**super()._state(), "solutions": self.solutions, "fishers": self.fishers}

    def _attributes(self, state: State, model: nn.Module | None) -> dict[str, Any]:
        attributes = super()._attributes(state, model)
        solutions = [
            tensors(solution, "a solution of the state") for solution in state["solutions"]
        ]
        fishers = [
            tensors(fisher, "Fisher information of the state") for fisher in state["fishers"]
        ]
        if len(fishers) != (len(solutions) if self.fisher is not None else 0):
            raise ValueError(
                f"the state has {len(solutions)} solutions and Fisher information of {len(fishers)}"
                f" of them, which does not fit this plugin's fisher={self.fisher!r}"
            )
        if model is not None:
            for known in [*solutions, *fishers]:
                check_fits({name: tensor.shape for name, tensor in known.items()}, model)
        return {
            **attributes,
            "solutions": solutions,
            "fishers": fishers,
            "_parameters": {},
            "_trained": set(),
            "_statistics": {},
        }

    def _measure(
        self, model: nn.Module, data: Any, forward: Forward | None, batch_size: int
    ) -> None:
        if self.fisher is None:
            return
        fisher = estimate_fisher(
            model,
            data,
            fisher=self.fisher,
            likelihood=self.likelihood,
            forward=forward,
            batch_size=batch_size,
            num_workers=self.source.num_workers,
            verbose=self.verbose,
        )
        self.fishers.append({n: fisher[n] for n in fisher if n in self._trained})

    def _near(self, model: nn.Module) -> Importance:
        omega = {}
        for name, parameter in named_parameters(model).items():
            if name in self._trained:
                omega[name] = torch.ones_like(parameter, dtype=wide_dtype(parameter))
            elif self.importance is not None and name in self.importance:
                omega[name] = grow(self.importance[name], parameter.shape, name)
        return Importance(omega, samples=0)

    def consolidate(self, model: nn.Module, new: Importance) -> tuple[Importance, QuadraticPenalty]:
        """Keeps θ_t, and has the next task stay near to it alone: nothing is accumulated.

        :param model: at the new task's solution.
        :param new: Ω of the new task.
        :return: that Ω, and the penalty from now on.
        """
        penalty = QuadraticPenalty(model, new, self.lambda_reg)
        # The penalty never writes to its anchor, so that θ_t need not be copied again.
        solution = {n: theta for n, theta in penalty.anchor.items() if n in self._trained}
        for name, now in _statistics(model).items():
            if name not in self._statistics or not torch.equal(now, self._statistics[name]):
                solution[name] = now.clone()
        self.solutions.append(solution)
        self._trained, self._statistics = set(), {}
        return new, penalty


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """Buffers of floating-point numbers by canonical name."""
    buffers = model.named_buffers()
    return {canonical_name(model, name): b for name, b in buffers if b.is_floating_point()}
