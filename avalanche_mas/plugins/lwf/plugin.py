"""Learning without Forgetting as an Avalanche plugin (Li & Hoiem, 2016)."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from avalanche.benchmarks import OnlineCLExperience
from torch import Tensor, nn

from avalanche_mas.importance.parameters import unwrap
from avalanche_mas.plugins.base.arguments import (
    check_counts,
    check_positive,
    check_strengths,
    strength_of,
)
from avalanche_mas.plugins.base.eval_mode import in_eval_mode
from avalanche_mas.plugins.base.features import FeatureTap, find_classifier, is_multi_task, run
from avalanche_mas.plugins.base.recording import (
    check_index,
    check_repeatable,
    record,
    take_index,
    with_index,
)
from avalanche_mas.plugins.base.state import State, StatefulPlugin
from avalanche_mas.plugins.base.streams import measuring_batch_size, own_forward
from avalanche_mas.plugins.lwf.distillation import (
    Units,
    checked_units,
    classes_of,
    distillation_loss,
    scores_of_old_tasks,
    with_units,
)
from avalanche_mas.plugins.warmup import HeadWarmupPlugin

_OTHERWISE = (
    ". Write what is different into the model's own forward, or use MASPlugin, which takes it so"
)
_RECOMPUTE = "Use targets='recomputed', which asks the old model about each mini-batch."


class LwFPlugin(StatefulPlugin):
    r"""On the new task's images, the old tasks' outputs are kept as they were.

    .. math:: L = L_{\text{new}} + \alpha \sum_{o} L_{\text{old}}(\hat Y_o, Y_o)

    over all old heads o, with :math:`L_{\text{old}}` of :func:`.distillation_loss` (Li & Hoiem,
    *Learning without Forgetting*, Eq. 1-4; their λ_o is α here). The old outputs are those of the
    model as it was before the experience, **in eval mode**.

    A model with several heads is an Avalanche ``MultiTaskModule``; each head counts with the
    classes that its tasks had. A model with one head counts with the classes of all earlier
    experiences: with old classes only in a class-incremental stream, with all where each
    experience has all classes, or where no experience names its classes. The model is forwarded
    once per iteration, so BatchNorm statistics move as in finetuning.

    **Memory** during an experience: with ``"recorded"`` one score for each of its images and each
    old class; with ``"recomputed"`` a copy of the model. Between experiences nothing is kept but
    the classes.

    :param alpha: α, the strength of the old tasks' loss; 0 is finetuning, bit for bit. Or one for
        each experience, the first of which has no old tasks, as Avalanche allows.
    :param temperature: T of the distillation; 2 in the paper.
    :param targets: ``"recorded"``, as in the paper: the old outputs are written down once, before
        training, which takes transforms without randomness and no samples from other experiences,
        and is refused from the first experience on where it cannot be done; or ``"recomputed"``:
        the old model is kept and asked about each mini-batch.
    :param warmup_epochs: epochs in which only the new head is trained first, see
        :class:`.HeadWarmupPlugin`. The paper has such a warm-up, until convergence.
    :param classifier: dotted name of the module that is called with the shared features and task
        labels, once more for each old head; None: Avalanche's ``MultiHeadClassifier`` inside the
        model.
    :param batch_size: samples per batch of the recording; None for the strategy's ``eval_mb_size``,
        but at least 32.
    :param verbose: show a progress bar while recording.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 1.0,
        temperature: float = 2.0,
        *,
        targets: Literal["recorded", "recomputed"] = "recorded",
        warmup_epochs: int = 0,
        classifier: str | None = None,
        batch_size: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        check_strengths(alpha=alpha)
        check_positive(temperature=temperature)
        if targets not in ("recorded", "recomputed"):
            raise ValueError(f"targets must be 'recorded' or 'recomputed', got {targets!r}")
        check_counts(batch_size=batch_size)
        self.alpha, self.temperature, self.targets = alpha, temperature, targets
        self.classifier, self.batch_size, self.verbose = classifier, batch_size, verbose
        self.warmup = HeadWarmupPlugin(warmup_epochs)
        self.tasks = 0
        """Tasks that have been learnt."""
        self.units: Units = {}
        """Head → the classes that experiences so far have taught it; None names a single head."""
        self._old: Units = {}  # the same, before the present task
        self._name: str | None = None  # of the classifier, where its input is needed
        self._recorded: dict[str, Tensor] | None = None
        self._teacher: nn.Module | None = None
        self._index: Tensor | None = None  # of the mini-batch's samples
        self._tap: FeatureTap | None = None
        self._unnamed = False  # whether nothing names the experience's classes
        self._width = 0  # of a single head then

    @property
    def protects(self) -> bool:
        """Whether old tasks count; without it this is finetuning."""
        return self.strength > 0

    @property
    def strength(self) -> float:
        """α of the present experience.

        :raises ValueError: if there is one for each experience, but none for this.
        """
        return strength_of(self.tasks, alpha=self.alpha)

    @property
    def warmup_epochs(self) -> int:
        """Epochs in which only the new head is trained first."""
        return self.warmup.epochs

    @property
    def active(self) -> bool:
        """Whether there is an old task that counts."""
        return bool(self._old) and self.protects

    def needs_features(self, model: nn.Module) -> bool:
        """Whether the model's output alone does not tell what is compared.

        :param model: the model that is trained.
        :return: True if its shared features are needed too.
        """
        return is_multi_task(model)

    def compared(self, output: Any, features: Tensor | None, model: nn.Module) -> dict[str, Tensor]:
        """What must not change: in each head, the scores of its old classes.

        :param output: what the model returned.
        :param features: the shared features, where they are needed.
        :param model: the model, unwrapped, whose heads are used.
        :return: tensors of shape (samples, ·) by name.
        """
        classifier = None if self._name is None else model.get_submodule(self._name)
        return scores_of_old_tasks(self._old, output, features, classifier)

    def old_loss(self, now: dict[str, Tensor], before: dict[str, Tensor]) -> Tensor:
        """α Σ L_old (Eq. 1) for what :meth:`compared` gave for both models.

        :param now: what is compared, of the model that is trained.
        :param before: the same of the old model.
        :return: a 0-d tensor.
        """
        losses = [distillation_loss(now[n], before[n], self.temperature) for n in now]
        return self.strength * torch.stack(losses).sum()

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """What has been learnt so far is old, unless this is a later part of the same task."""
        if getattr(strategy.experience, "is_first_subexp", True):
            self._old = self.units
        if self._may_record and isinstance(strategy.experience, OnlineCLExperience):
            raise ValueError(
                "the experience is part of an online stream: images of later parts cannot be "
                f"recorded before its task begins. {_RECOMPUTE}"
            )

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Numbers the samples, so that their recorded outputs can be found again."""
        if self._records:
            strategy.adapted_dataset = with_index(strategy.adapted_dataset)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Records the old outputs or keeps the old model, and warms up the new head."""
        self._task.begin()
        model = unwrap(strategy.model)
        self._unnamed = classes_of(strategy.experience) is None
        if self.needs_features(model):
            self._name = find_classifier(model, self.classifier)
        if self.protects and not self._old:
            self._check_asking(strategy, model)
        if self._records:
            check_index(strategy.dataloader, _RECOMPUTE)
            self._recorded = record(
                model,
                strategy.adapted_dataset,
                lambda x: self._ask(model, x),
                device=strategy.device,
                batch_size=measuring_batch_size(self.batch_size, strategy),
                num_workers=kwargs.get("num_workers", 0),
                verbose=self.verbose,
            )
        elif self._may_record:
            check_repeatable(model, strategy.adapted_dataset)
        elif self.active and getattr(strategy.experience, "is_first_subexp", True):
            self._teacher = copy.deepcopy(model).eval().requires_grad_(False)
            self._teacher.zero_grad()
        self.warmup.before_training_exp(strategy, **kwargs)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Refuses samples of other experiences, which a replay plugin has added, if recorded."""
        if self._records:
            check_index(strategy.dataloader, _RECOMPUTE)

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Takes the samples' numbers out of the mini-batch.

        :raises TypeError: if the targets are no classes.
        """
        y = strategy.mb_y
        if self._unnamed and (y.is_floating_point() or y.dim() > 1):
            raise TypeError(
                f"the experience names no classes, and its targets are {y.dtype} of shape "
                f"{tuple(y.shape)}: there are no class probabilities of a sample that could be "
                "distilled. MASPlugin needs no classes."
            )
        if self._records:
            self._index = take_index(strategy.mbatch, strategy.adapted_dataset)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Begins to watch the classifier's input."""
        if self._tap is not None:  # a forward pass that failed
            self._tap.close()
        if self.active and self._name is not None:
            self._tap = FeatureTap(unwrap(strategy.model).get_submodule(self._name))

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Ends it."""
        if self._tap is not None:
            self._tap.close()
        if self._unnamed and isinstance(strategy.mb_output, Tensor):
            self._width = strategy.mb_output.shape[-1]

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds the old tasks' loss."""
        if not self.active:
            return
        tap, self._tap = self._tap, None
        labels = strategy.mbatch[-1] if is_multi_task(strategy.model) else None
        features = None if tap is None else tap.features(labels)
        now = self.compared(strategy.mb_output, features, unwrap(strategy.model))
        if self._teacher is not None:
            with torch.no_grad():
                before = self._ask(self._teacher, strategy.mb_x)
        else:
            assert self._recorded is not None
            if self._index is None or len(self._index) != len(strategy.mb_x):
                raise ValueError(f"the mini-batch has samples that were not recorded. {_RECOMPUTE}")
            before = {name: table[self._index] for name, table in self._recorded.items()}
        strategy.loss = strategy.loss + self.old_loss(now, before)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Notes what is trained, to know what is new in the next experience."""
        self.warmup.before_update(strategy, **kwargs)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """The experience's classes are known from now on; its recordings are forgotten."""
        self._recorded, self._index = None, None
        self.tasks += self._task.ends(strategy.experience)
        if not isinstance(strategy.experience, OnlineCLExperience):
            self._teacher = None
        self.warmup.after_training_exp(strategy, **kwargs)
        classes = classes_of(strategy.experience)
        if is_multi_task(strategy.model):
            for task in sorted(set(strategy.experience.task_labels)):
                self.units = with_units(self.units, task, classes or ())
        else:
            used = range(self._width) if classes is None else classes
            self.units = with_units(self.units, None, used)

    def _state(self) -> State:
        return {"tasks": self.tasks, "units": self.units, "warmup": self.warmup.state_dict()}

    def _attributes(self, state: State, model: nn.Module | None) -> dict[str, Any]:
        warmup = HeadWarmupPlugin(self.warmup.epochs)
        warmup.load_state_dict(state["warmup"], model)
        idle = dict.fromkeys(("_recorded", "_teacher", "_index", "_tap"))
        units = checked_units(state["units"])
        return {"tasks": int(state["tasks"]), "units": units, "_old": {}, "warmup": warmup, **idle}

    @property
    def _may_record(self) -> bool:
        return self.protects and self.targets == "recorded"

    @property
    def _records(self) -> bool:
        return self._may_record and bool(self._old)

    def _check_asking(self, strategy: Any, model: nn.Module) -> None:
        """Asks the model about a sample in the first experience, as it will be in the next ones.

        :raises TypeError: if it gives no answer.
        """
        dataset, own, task = strategy.adapted_dataset, own_forward(strategy), None
        with in_eval_mode(model), torch.no_grad():
            batch = dataset.collate_fn([dataset[0]])
            try:
                x, *more = [field.to(strategy.device) for field in batch]
                task = int(more[-1]) if is_multi_task(model) else None
                output, _ = run(model, x, task, self._name)
                trained = output if own is None else own(model, batch)
            except Exception as error:  # whatever a model raises
                raise TypeError(
                    "the old model is asked about the first field of a mini-batch alone, which "
                    f"fails ({type(error).__name__}: {error}): {type(self).__name__} is for models "
                    f"of one input{_OTHERWISE}"
                ) from error
        if not isinstance(output, Tensor) or output.dim() != 2:
            kind = type(output).__name__
            found = tuple(output.shape) if isinstance(output, Tensor) else f"a {kind}"
            raise TypeError(
                f"{type(self).__name__} compares class scores of shape (samples, classes), and the "
                f"model returned {found}{_OTHERWISE}"
            )
        if not isinstance(trained, Tensor) or not torch.equal(trained, output):
            raise TypeError(
                f"{type(strategy).__name__}.forward returns something else than model(x), which is "
                f"what {type(self).__name__} asks the old model{_OTHERWISE}"
            )

    def _ask(self, model: nn.Module, x: Any) -> dict[str, Tensor]:
        """What is compared, of the old model."""
        task = next(iter(self._old)) if is_multi_task(model) else None
        return self.compared(*run(model, x, task, self._name), model)
