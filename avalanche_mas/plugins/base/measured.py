"""What the methods share whose importance is measured on data: on which data, and when."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from avalanche.models import MultiTaskModule
from torch import Tensor, nn

from avalanche_mas.importance import Importance
from avalanche_mas.importance.batches import Forward
from avalanche_mas.importance.gathering import Mean
from avalanche_mas.importance.interrupts import DeferredInterrupts
from avalanche_mas.importance.parameters import unwrap
from avalanche_mas.importance.team import Team
from avalanche_mas.importance.watch import FRACTION, Watch, call_again
from avalanche_mas.plugins.base.arguments import check_counts, check_forward
from avalanche_mas.plugins.base.observations import (
    At,
    Observations,
    Pieces,
    calls_for,
    one_task_each,
    parameters_of,
)
from avalanche_mas.plugins.base.regularization import RegularizationPlugin
from avalanche_mas.plugins.base.state import State
from avalanche_mas.plugins.base.streams import (
    StreamBatches,
    StreamSource,
    in_eval_mode,
    own_forward,
)

Streams = str | Sequence[str] | Callable[[Any], Any]
"""A stream's name, several names, or a function experience → dataset."""


class MeasuredPlugin(RegularizationPlugin):
    """Measures importance after each experience on data of the user's choice.

    What the network is used for between two experiences can be measured too, piece by piece, see
    :meth:`observe` and :meth:`watch`. These samples form one mean, :attr:`observed`. When the next
    experience begins, it joins Ω of the tasks as one further measurement, as Ω of a task would, and
    θ* becomes the parameters at which it was measured, where the model still is.

    :param lambda_reg: λ of Eq. 3.
    :param streams: on which data Ω is measured after experience i: the name of a stream of the
        experience's benchmark, whose experience i is used; several names, whose samples form one
        mean; or a function ``experience -> dataset``, which may be unlabelled where the method
        reads no labels. Evaluation transforms are used. None: nothing is measured after an
        experience, Ω comes from what is observed alone. Where that is nothing, the next experience
        begins with a warning, and with the penalty as it was.
    :param accumulate: ``"sum"``, ``"mean"`` or a decay, see :class:`.RegularizationPlugin`.
    :param step: ``"auto"``, ``"proximal"`` or ``"gradient"``.
    :param forward: ``forward(model, batch) -> output``: how a batch goes through the model, where
        that is another way than the strategy's. It gets all that a sample of the stream has: x, y,
        and the task label if there is one. None: as the strategy does it, where its class has a
        ``forward`` of its own; otherwise ``model(x)``, ``model(**x)`` for a dict without its
        labels, or for a multi-task model ``model(x, task_label)``.
    :param batch_size: samples per batch of the measurement; None for the strategy's
        ``eval_mb_size``, but at least 32. It does not change the result.
    :param num_workers: loader processes of the measurement.
    :param max_samples: use at most so many samples per experience and stream, a fixed random
        subset.
    :param initial: importance measured before the first experience; see also :meth:`prime`.
    :param verbose: show a progress bar while measuring.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        lambda_reg: float = 1.0,
        *,
        streams: Streams | None = "train",
        accumulate: Literal["sum", "mean"] | float = "sum",
        step: Literal["auto", "proximal", "gradient"] = "auto",
        forward: Forward | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        max_samples: int | None = None,
        initial: Importance | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(lambda_reg, accumulate=accumulate, step=step, initial=initial)
        check_counts(batch_size=batch_size, max_samples=max_samples)
        check_counts(0, num_workers=num_workers)
        check_forward(forward)
        self.forward = forward
        self.batch_size, self.num_workers = batch_size, num_workers
        self.source = None if streams is None else StreamSource(streams, num_workers, max_samples)
        self.verbose = verbose
        self.pieces = 0
        """Measurements of observed samples, over the plugin's whole life."""
        self._observations = Observations()
        self._watching = False
        self._unprotected = False  # whether a task has ended without a measurement since

    @abstractmethod
    def measure(
        self, model: nn.Module, data: Any, forward: Forward | None, batch_size: int
    ) -> Importance:
        """Ω of ``data``, by the method's own equation.

        :param model: at the solution of the task.
        :param data: batches or a dataset, as for
            :func:`~avalanche_mas.estimate_importance`.
        :param forward: how a batch goes through the model; None for ``model(x)``.
        :param batch_size: samples per batch where ``data`` is a dataset.
        :return: Ω, a mean over the samples.
        """

    def prime(
        self,
        model: nn.Module,
        data: Any,
        *,
        forward: Forward | None = None,
        batch_size: int | None = None,
    ) -> Importance:
        """Measures Ω on ``data`` now and protects the model's present parameters.

        For a pretrained network before its first experience, or for data that no stream holds.

        :param model: the model that the strategy will train.
        :param data: as for :func:`~avalanche_mas.estimate_importance`.
        :param forward: how a batch goes through the model; None for the plugin's own, or else
            ``model(x)``.
        :param batch_size: samples per batch where ``data`` is a dataset; None for the plugin's own,
            or else 64.
        :return: Ω of ``data`` alone.
        """
        self._check_model(model)
        self._protect_initially(model)
        batch_size = batch_size or self.batch_size or 64
        new = self.measure(model, in_eval_mode(data), forward or self.forward, batch_size)
        self._protect(model, new)
        return new

    @property
    def observed(self) -> Importance | None:
        """Ω of the samples observed since the last experience; None if there are none."""
        return self._observations.importance

    def observe(
        self, model: nn.Module, x: Any, task_label: int | Tensor | None = None
    ) -> Importance:
        """Measures unlabelled samples that the trained network has met, and adds them to the mean.

        Nothing about the model changes. :attr:`observed` holds the mean at once; the penalty, and
        :attr:`importance`, with the next experience.

        :param model: at the parameters of the last solution, or wherever θ* will be next; the
            same for all pieces.
        :param x: a batch of samples: a tensor, a tuple ``(x, ...)`` or a dict of arguments. Labels
            in it are not read. With the plugin's own ``forward``, what that takes.
        :param task_label: for a multi-task model, of all samples, or one for each.
        :return: Ω of these samples alone.
        :raises ValueError: if the method reads labels, if the model has moved since the last piece,
            if a task label is missing, or as the method's estimate; nothing is added then.
        :raises TypeError: for a batch of unknown form.
        :raises RuntimeError: while an experience is trained.
        """
        self._check_deployed(model)
        if self.forward is not None:
            new = self.measure(model, [x], self.forward, self.batch_size or 64)
        else:
            calls = calls_for(model, x, task_label)
            new = self.measure(model, calls, call_again, self.batch_size or 64)
        self._add_piece(new, parameters_of(model))
        return new

    @contextmanager
    def watch(self, model: nn.Module, fraction: float = FRACTION) -> Iterator[Watch]:
        """Adds a part of the samples that go through the model while the context is open. ::

            with plugin.watch(model), torch.inference_mode():
                for x in arriving:
                    answer(model(x))

        They are added when it closes, also after an exception, unless the model has moved. The
        chosen samples go through the model once more, in groups that are gathered over the calls.

        :param model: as for :meth:`observe`; called as ever, in eval mode, from one thread at a
            time, see :class:`.watch.Watch`.
        :param fraction: the part of the samples that is measured: by default every tenth.
        :return: what is watched, with ``importance``, ``samples`` and ``seen`` so far.
        :raises ValueError: as :meth:`observe`; if the model is in train mode when it is called, or
            is watched already.
        :raises RuntimeError: while an experience is trained, or in one of several processes.
        """
        self._check_deployed(model)
        if Team.of("own").size > 1:
            raise RuntimeError(
                "watch sees what goes through the model in this process only, and the processes "
                "would come to protect different parameters: give all samples to observe, in every "
                "process the same"
            )
        multi_task = isinstance(unwrap(model), MultiTaskModule)
        parts = {"parts": one_task_each} if multi_task else {}
        watched, at = Watch(model, self._running, fraction, **parts), parameters_of(model)
        try:
            with watched:
                self._watching = True
                yield watched
        finally:
            self._watching = False
            if watched.samples and at.items() <= parameters_of(model).items():  # it may have grown
                self._add_piece(watched.importance, at)

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy or a checkpoint, which watches nothing."""
        return {**vars(self), "_watching": False}

    def forget_observed(self) -> None:
        """Drops the samples that were observed since the last experience."""
        self._observations = Observations()

    def _add_piece(self, new: Importance, at: At) -> None:
        with DeferredInterrupts():
            self._observations.add(new, at)
            self.pieces += 1

    def _running(self, model: nn.Module) -> Mean:
        """A running mean for :meth:`watch`."""
        return Pieces(model, self.measure)

    def _check_deployed(self, model: nn.Module) -> None:
        if self._task.open:
            raise RuntimeError(
                "an experience is being trained, or its training has been broken off: samples can "
                "be observed between experiences"
            )
        self._observations.check(model)

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuses to train while the model is watched, before anything about it changes."""
        if self._watching:
            raise RuntimeError(
                f"{type(self).__name__} watches what the model is used for: leave the context of "
                "watch before the next experience is trained. What was watched is kept."
            )
        super().before_training(strategy, **kwargs)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Finds the data that will be measured, or fails before anything is trained.

        What was observed joins Ω.
        """
        if self.source is not None:
            self.source.check(strategy.experience)
            self._batches(strategy).check(self._measured)
        self._observations.check(strategy.model)
        if self.observed is not None:
            self._protect_initially(strategy.model)
            self._protect(strategy.model, self.observed)
            self.forget_observed()
            self._unprotected = False
        elif self._unprotected:
            warnings.warn(
                "nothing has been observed since the last experience, and streams=None measures "
                "nothing else: what was learnt there is not protected. Call observe or watch after "
                "each experience, or name streams.",
                stacklevel=2,
            )
        self._warn_of_statistics(strategy.model)
        super().before_training_exp(strategy, **kwargs)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Accumulates Ω of the experience, and moves θ* to the present solution."""
        if self.source is not None:
            super().after_training_exp(strategy, **kwargs)
        else:
            self._hooks.remove()
            self._value = None
            self._unprotected |= self._task.ends(strategy.experience)

    def importance_of_task(self, strategy: Any) -> Importance:
        """Ω of the experience's data in the chosen streams."""
        batches = self._batches(strategy)
        return self.measure(strategy.model, batches, batches.forward, batches.batch_size)

    def _measured(self, forward: Forward) -> Forward:
        """What is measured of a batch that goes through the model so: the output itself."""
        return forward

    @property
    def streams(self) -> list[str] | Callable[[Any], Any] | None:
        """On which data importance is measured."""
        return None if self.source is None else self.source.streams

    @property
    def max_samples(self) -> int | None:
        """The upper limit for the samples of each experience and stream."""
        return None if self.source is None else self.source.max_samples

    def _batches(self, strategy: Any) -> StreamBatches:
        """The samples that the experience is measured on."""
        assert self.source is not None
        forward = self.forward or own_forward(strategy)
        return StreamBatches(self.source, strategy, self.batch_size, forward)

    def _state(self) -> State:
        return {
            **super()._state(),
            "observations": self._observations.state(),
            "pieces": self.pieces,
            "unprotected": self._unprotected,
        }

    def _attributes(self, state: State, model: nn.Module | None) -> dict[str, Any]:
        return {
            **super()._attributes(state, model),
            "_observations": Observations.loaded(state["observations"], model),
            "pieces": int(state["pieces"]),
            "_unprotected": bool(state["unprotected"]),
        }
