"""Any strategy on several processes: ``DistributedDataParallel`` as continual learning needs it.

Avalanche 0.6.0 leaves this to the user: a head that is made after the model was wrapped is not
synchronised, so that the processes drift apart; without task labels every process trains on all
samples; with them each epoch has the same order, and the batch size grows with the number of
processes; metrics of an evaluation are those of a part of the samples; a parameter that a plugin
uses outside the model's own forward pass (as LwF does with old heads) breaks the backward pass.
"""

from typing import Any

import torch
from avalanche.training.supervised import Naive
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avalanche_mas.importance.parameters import checksum
from avalanche_mas.importance.team import DisagreementError, Team
from avalanche_mas.training.joint import JointTraining
from avalanche_mas.training.shared_loader import SharedLoader, Weight, weighted_sum


class DataParallel:
    """Put before a strategy, it trains on all processes of ``torch.distributed`` together. ::

        class Ours(DataParallel, Replay): ...

    A run on P processes is the run on one, with the same mini-batches: ``train_mb_size`` samples,
    shared out among the processes. The gradient is that of the mean over all of them,
    also where P does not divide their number, so learning rates need not change. The loss must be a
    mean over samples, as all of PyTorch's are by default. Equal up to round-off; BatchNorm in train
    mode sees a process's own samples only (``SyncBatchNorm`` all), and dropout draws its own.

    The model may be given wrapped or not. It is wrapped in ``DistributedDataParallel`` when an
    experience begins, with all its new heads, which starts from the first process's parameters and
    buffers, and is unwrapped when training on it ends. So between experiences ``strategy.model`` is
    the plain model, for evaluation and checkpoints. Metrics of training are those of this process's
    samples; in evaluation every process sees all samples.

    Where no process group is initialised it changes nothing.
    """

    model: nn.Module
    device: torch.device
    loss: Tensor
    dataloader: Any
    plugins: list[Any]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._weight = Weight()

    def make_train_dataloader(self, *args: Any, **kwargs: Any) -> None:
        """Makes the strategy's own loader, and takes this process's part of its mini-batches."""
        super().make_train_dataloader(*args, **kwargs)  # type: ignore[misc]
        self._share_dataloader()

    def make_eval_dataloader(self, *args: Any, **kwargs: Any) -> None:
        """Makes the strategy's own loader, and reads all samples, which metrics are to be of."""
        super().make_eval_dataloader(*args, **kwargs)  # type: ignore[misc]
        if Team.of("split").size > 1:
            self.dataloader = SharedLoader(self.dataloader, Team(), Weight())

    def check_model_and_optimizer(self, *args: Any, **kwargs: Any) -> None:
        """Adapts the model, and wraps it with all that is new."""
        self.model = _unwrapped(self.model)
        super().check_model_and_optimizer(*args, **kwargs)  # type: ignore[misc]
        if Team.of("split").size > 1:
            self.model = DistributedDataParallel(
                self.model,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                find_unused_parameters=True,
            )
            weight = self._weight
            self.model.register_comm_hook(None, lambda _, bucket: weighted_sum(weight, bucket))

    def _before_training_exp(self, **kwargs: Any) -> None:
        team = Team.of("split", self.device)
        if team.size > 1:  # before a plugin waits for others that do not have it
            self._check_options(team)
        super()._before_training_exp(**kwargs)  # type: ignore[misc]
        for plugin in self.plugins if team.size > 1 else ():
            importance = getattr(plugin, "importance", None) or {}
            team.check_equal(
                [checksum(omega) for omega in importance.values()],
                f"each process's {type(plugin).__name__} holds another importance, so that the "
                "penalties would drive the parameters apart: give all of them the same one, or "
                "let them observe the same samples",
            )

    def _check_options(self, team: Team) -> None:
        """:raises DisagreementError: if processes have other plugins, or made them otherwise."""
        own = [_description(plugin) for plugin in self.plugins]
        first, *others = team.all_gather(own)
        for rank, other in enumerate(others, start=1):
            if other != first:
                only = [
                    "; ".join(p for p in a if p not in b) or "less"
                    for a, b in ((first, other), (other, first))
                ]
                raise DisagreementError(
                    f"the plugins of the processes differ: process 0 has {only[0]}, process {rank} "
                    f"has {only[1]}. Give all of them the same plugins, with the same options."
                )

    def training_epoch(self, **kwargs: Any) -> None:
        """Also shares the mini-batches of a loader that a plugin (replay) has put in place."""
        self._share_dataloader()
        super().training_epoch(**kwargs)  # type: ignore[misc]

    def backward(self) -> None:
        """Tells ``DistributedDataParallel`` which parameters the whole loss depends on."""
        if isinstance(self.model, DistributedDataParallel):
            self.model.reducer.prepare_for_backward([self.loss])
        super().backward()  # type: ignore[misc]

    def _after_training_exp(self, **kwargs: Any) -> None:
        self.model = _unwrapped(self.model)
        Team.of("split", self.device).broadcast_(self.model.buffers())
        super()._after_training_exp(**kwargs)  # type: ignore[misc]

    def _share_dataloader(self) -> None:
        team = Team.of("split", self.device)
        if team.size > 1 and not isinstance(self.dataloader, SharedLoader):
            self.dataloader = SharedLoader(self.dataloader, team, self._weight)


def _description(plugin: Any) -> str:
    """What a plugin is and, where it says so itself, how it was made."""
    own = any("__repr__" in vars(kind) for kind in type(plugin).__mro__[:-1])
    return repr(plugin) if own else type(plugin).__name__


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


class DataParallelNaive(DataParallel, Naive):  # type: ignore[misc]
    """Finetuning, and what plugins make of it, on all processes together."""


class DataParallelJointTraining(DataParallel, JointTraining):
    """Joint training on all processes together."""
