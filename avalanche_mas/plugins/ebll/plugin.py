"""Encoder Based Lifelong Learning as an Avalanche plugin (Rannen et al., ICCV 2017)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avalanche_mas.importance.parameters import unwrap
from avalanche_mas.plugins.base.arguments import check_counts, check_not_negative
from avalanche_mas.plugins.base.eval_mode import in_eval_mode
from avalanche_mas.plugins.base.features import find_classifier, run
from avalanche_mas.plugins.base.state import State, check_keys, tensors
from avalanche_mas.plugins.base.streams import StreamBatches, StreamSource
from avalanche_mas.plugins.ebll.autoencoder import train_encoder
from avalanche_mas.plugins.lwf.plugin import LwFPlugin


class EBLLPlugin(LwFPlugin):
    r"""LwF that also keeps the part of the shared features that old tasks need.

    .. math:: L = L_{\text{LwF}} + \frac{\alpha_{\text{code}}}{2} \sum_{t} \frac{1}{N}
        \sum_{k=1}^{N} \lVert \sigma(W_t F(x_k)) - \sigma(W_t F^*(x_k)) \rVert_2^2

    (section 3 of Rannen et al., *Encoder Based Lifelong Learning*): F are the shared features, F*
    those of the model before the experience, and W_t the encoder of old task t's autoencoder, which
    is trained after that task by :func:`.train_encoder` on its features, with evaluation
    transforms. F is what goes into the classifier: found by itself where that is Avalanche's
    ``MultiHeadClassifier`` or ``IncrementalClassifier``, otherwise named.

    Defaults are those of the authors' releases: T = 2, code loss 0.1, code of 100 for 9216 features
    (300 for ImageNet), and for the autoencoder, of their PyTorch release, Adadelta with learning
    rate 0.1 for 200 epochs with mini-batches of 200 and λ = 0.1.

    **Memory**: an encoder for each task, and during an experience what LwF records or keeps, and
    with ``"recorded"`` a code for each image and each old task. While an autoencoder is trained,
    the features of its task's data.

    :param alpha: strength of LwF's part, as in :class:`.LwFPlugin`.
    :param temperature: T of the distillation.
    :param code_alpha: α_code, strength of the code loss. With both strengths 0 it is finetuning.
    :param targets: ``"recorded"`` or ``"recomputed"``, as in :class:`.LwFPlugin`.
    :param warmup_epochs: epochs in which only the new head is trained first.
    :param classifier: dotted name of the module whose input are the shared features, and whose
        output is the model's.
    :param code_size: numbers in a code; None for a quarter of the features, at most 100.
    :param reconstruction: λ of the autoencoder, the weight of a feature's mean squared error.
    :param autoencoder_epochs: epochs of its training.
    :param autoencoder_lr: Adadelta's learning rate.
    :param autoencoder_batch_size: samples per step.
    :param batch_size: samples per batch of recordings; None for the strategy's ``eval_mb_size``,
        but at least 32.
    :param verbose: show progress bars.
    :raises ValueError: for an option out of range.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 1.0,
        temperature: float = 2.0,
        code_alpha: float = 0.1,
        *,
        targets: Literal["recorded", "recomputed"] = "recorded",
        warmup_epochs: int = 0,
        classifier: str | None = None,
        code_size: int | None = None,
        reconstruction: float = 0.1,
        autoencoder_epochs: int = 200,
        autoencoder_lr: float = 0.1,
        autoencoder_batch_size: int = 200,
        batch_size: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            alpha,
            temperature,
            targets=targets,
            warmup_epochs=warmup_epochs,
            classifier=classifier,
            batch_size=batch_size,
            verbose=verbose,
        )
        check_not_negative(
            code_alpha=code_alpha, reconstruction=reconstruction, autoencoder_lr=autoencoder_lr
        )
        check_counts(
            code_size=code_size,
            autoencoder_epochs=autoencoder_epochs,
            autoencoder_batch_size=autoencoder_batch_size,
        )
        self.code_alpha, self.code_size = code_alpha, code_size
        self.reconstruction, self.autoencoder_lr = reconstruction, autoencoder_lr
        self.autoencoder_epochs = autoencoder_epochs
        self.autoencoder_batch_size = autoencoder_batch_size
        self.encoders: list[nn.Linear] = []
        """W of each task's autoencoder, in the order of the tasks."""
        self._source = StreamSource("train")

    @property
    def protects(self) -> bool:
        """Whether outputs or codes of old tasks count."""
        return self.strength > 0 or self.code_alpha > 0

    def needs_features(self, model: nn.Module) -> bool:
        """The codes are made of them, whatever the model."""
        return True

    def compared(self, output: Any, features: Tensor | None, model: nn.Module) -> dict[str, Tensor]:
        """What must not change: LwF's scores, and the code of each old task."""
        assert features is not None
        flat = features.flatten(1)
        codes = {f"code {t}": torch.sigmoid(w(flat)) for t, w in enumerate(self.encoders)}
        return {**super().compared(output, features, model), **codes}

    def old_loss(self, now: dict[str, Tensor], before: dict[str, Tensor]) -> Tensor:
        """LwF's part, and half the squared distances of the codes."""
        codes = [name for name in now if name.startswith("code")]
        distances = [(now[name] - before[name]).square().sum(1).mean() for name in codes]
        scores = {name: tensor for name, tensor in now.items() if name not in codes}
        return super().old_loss(scores, before) + self.code_alpha / 2 * sum(distances)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Also makes sure that the classifier is the model's end, on which the autoencoder relies.

        :raises ValueError: if the model's output is not its classifier's.
        """
        model = unwrap(strategy.model)
        self._name = find_classifier(model, self.classifier)
        with in_eval_mode(model), torch.no_grad():
            first = next(iter(StreamBatches(self._source, strategy, 2)))
            output, features = run(model, first.x.to(strategy.device), first.task, self._name)
            assert features is not None
            same = self._classify(model, features, first.task)
        # a network that has diverged returns NaN, which is no fault of its classifier's
        alike = isinstance(output, Tensor) and output.shape == same.shape
        if not (alike and torch.allclose(output, same, rtol=0, atol=0, equal_nan=True)):
            raise ValueError(
                f"the output of the classifier {self._name!r} is not the model's: its autoencoder "
                "cannot be trained with the task's loss. Pass classifier='...' to name the module "
                "whose output is the model's."
            )
        super().before_training_exp(strategy, **kwargs)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Also trains the autoencoder of the task that has been learnt."""
        super().after_training_exp(strategy, **kwargs)
        if not self._task.open:
            self.encoders = [*self.encoders, self._train_encoder(strategy)]

    def _state(self) -> State:
        return {**super()._state(), "encoders": [w.state_dict() for w in self.encoders]}

    def _attributes(self, state: State, model: nn.Module | None) -> dict[str, Any]:
        encoders = [_encoder(saved) for saved in state["encoders"]]
        return {**super()._attributes(state, model), "encoders": encoders}

    def _train_encoder(self, strategy: Any) -> nn.Linear:
        model, device = unwrap(strategy.model), strategy.device
        with in_eval_mode(model):
            samples = StreamBatches(self._source, strategy, self.batch_size)
            with torch.no_grad():
                parts = [
                    (run(model, s.x.to(device), s.task, self._name)[1], s.y.to(device), s.task)
                    for s in samples
                ]
            features = torch.cat([part for part, _, _ in parts if part is not None])
            y = torch.cat([part for _, part, _ in parts])
            tasks = torch.cat(
                [torch.full((len(part),), -1 if task is None else task) for _, part, task in parts]
            ).to(device)

            def task_loss(rebuilt: Tensor, rows: Tensor) -> Tensor:
                losses = []
                for task in torch.unique(tasks[rows]).tolist():
                    own = tasks[rows] == task
                    head = None if task < 0 else task
                    output = self._classify(model, rebuilt[own], head)
                    losses.append(strategy._criterion(output, y[rows][own]) * own.float().mean())
                total: Tensor = sum(losses, torch.zeros((), device=device))
                return total

            return train_encoder(
                features,
                task_loss,
                code_size=self.code_size or max(1, min(100, features[0].numel() // 4)),
                reconstruction=self.reconstruction,
                epochs=self.autoencoder_epochs,
                lr=self.autoencoder_lr,
                batch_size=self.autoencoder_batch_size,
                seed=len(self.encoders),
                verbose=self.verbose,
            )

    def _classify(self, model: nn.Module, features: Tensor, task: int | None) -> Tensor:
        assert self._name is not None
        classifier = model.get_submodule(self._name)
        output: Tensor = classifier(features) if task is None else classifier(features, task)
        return output


def _encoder(state: Any) -> nn.Linear:
    """The encoder of such a state.

    :raises ValueError: if it is none.
    """
    check_keys(state, ("weight", "bias"), "an encoder of the state")
    weight, bias = (tensors(state, "an encoder of the state")[name] for name in ("weight", "bias"))
    if weight.dim() != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"an encoder of the state has weights of shape {tuple(weight.shape)} and biases of "
            f"shape {tuple(bias.shape)}: the state is damaged"
        )
    encoder = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    encoder.load_state_dict(state, assign=True)
    return encoder.requires_grad_(False)
