"""Joint training: all experiences at once, the reference that continual learning is held against.

Avalanche's ``JointTraining`` (0.6.0) fills each mini-batch evenly from all tasks and repeats the
samples of small ones until the largest is through: next to 73,000 images, 2,000 are seen 36 times
an epoch. It also gives heads a wrong size, pads the outputs of unequal heads with zeros that enter
the loss, and shows plugins the first experience only.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from avalanche.benchmarks import CLExperience
from avalanche.benchmarks.scenarios import DatasetExperience
from avalanche.benchmarks.utils import concat_datasets
from avalanche.benchmarks.utils.data_loader import SingleDatasetDataLoader
from avalanche.models.dynamic_modules import avalanche_model_adaptation
from avalanche.models.utils import is_multi_task_module
from avalanche.training.supervised import Naive
from avalanche.training.supervised.joint_training import AlreadyTrainedError
from torch import Tensor, nn

_NO_UNIT = (
    -1000.0
)  # what Avalanche's classifiers answer in place of a unit that stands for no class


class JointExperience(DatasetExperience):  # type: ignore[misc]
    """Several experiences as one, as plugins and metrics see it.

    It has the samples, the task labels and the classes of all of them, and the stream and the index
    of the last one.

    :param parts: the experiences, at least one.
    :raises ValueError: if there is none.
    """

    def __init__(self, parts: Sequence[CLExperience]) -> None:
        if not parts:
            raise ValueError("there is no experience to train on: the stream is empty")
        dataset = concat_datasets([part.dataset for part in parts])
        super().__init__(dataset=dataset, current_experience=parts[-1].current_experience)
        self.origin_stream = parts[-1].origin_stream
        self.parts = list(parts)
        for name in ("task_labels", "classes_in_this_experience"):
            if all(hasattr(part, name) for part in parts):
                setattr(
                    self, name, sorted({value for part in parts for value in getattr(part, name)})
                )


class JointTraining(Naive):  # type: ignore[misc]
    """Trains once on a whole stream: finetuning on one experience that holds all the others.

    In each epoch every sample is seen exactly once, in random order, tasks mixed. Heads are as
    large as they get when the experiences are learnt one after the other. All else is
    :class:`avalanche.training.Naive`, whose arguments these are.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._units: dict[int, int] = {}
        """Task label → how many units of its head stand for a class."""

    def train(
        self,
        experiences: CLExperience | Iterable[CLExperience],
        eval_streams: Sequence[CLExperience | Iterable[CLExperience]] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Trains on all experiences at once.

        :param experiences: the whole stream, or one experience.
        :param eval_streams: as for Avalanche's strategies; None for the training experiences.
        :param kwargs: handed to the data loader and to plugins, as Avalanche does.
        :return: the last value of each metric.
        :raises AlreadyTrainedError: when called again, since training on one experience after the
            other is not joint training.
        :raises ValueError: if there is no experience.
        """
        if self.clock.train_exp_counter:
            raise AlreadyTrainedError(
                "joint training happens once: call train(stream) with all experiences together"
            )
        parts = list(experiences) if isinstance(experiences, Iterable) else [experiences]
        joint = JointExperience(parts)
        result: dict[str, Any] = super().train(
            joint, [parts] if eval_streams is None else eval_streams, **kwargs
        )
        return result

    def make_train_dataloader(
        self,
        num_workers: int = 0,
        shuffle: bool = True,
        pin_memory: bool | None = None,
        persistent_workers: bool = False,
        drop_last: bool = False,
        **kwargs: Any,
    ) -> None:
        """Reads every sample once, where Avalanche balances tasks and repeats samples."""
        options = self._obtain_common_dataloader_parameters(
            batch_size=self.train_mb_size,
            num_workers=num_workers,
            shuffle=shuffle,
            pin_memory=pin_memory,
            persistent_workers=persistent_workers,
            drop_last=drop_last,
        )
        self.dataloader = SingleDatasetDataLoader(self.adapted_dataset, **options)

    def model_adaptation(self, model: nn.Module | None = None) -> nn.Module:
        """Gives the model what it gets from the experiences one after the other.

        Avalanche's classifiers can take only one task at a time.
        """
        model = self.model if model is None else model
        for part in getattr(self.experience, "parts", [self.experience]):
            avalanche_model_adaptation(model, part)
            if is_multi_task_module(model):
                units = max(part.classes_in_this_experience) + 1
                for task in set(part.task_labels):
                    self._units[task] = max(units, self._units.get(task, 0))
        return model.to(self.device)

    def forward(self) -> Tensor:
        """The model's output, in which a unit that a sample's head does not have counts as masked.

        A multi-task model returns all samples of a mini-batch in one tensor. Avalanche fills it up
        with zeros where heads are smaller than the largest, and these are logits like any other.
        """
        output: Tensor = super().forward()
        if is_multi_task_module(self.model):
            unit = torch.arange(output.shape[1], device=output.device)
            for task, units in self._units.items():
                if units < len(unit):
                    padding = (self.mb_task_id == task)[:, None] & (unit >= units)
                    output = output.masked_fill(padding, _NO_UNIT)
        return output
