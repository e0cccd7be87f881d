"""Several processes of ``torch.distributed`` that work on one thing, such as under ``torchrun``.

Where no process group is initialised, a :class:`Team` has one member, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, TypeVar, get_args

import torch
import torch.distributed as dist
from torch import Tensor

Distributed = Literal["split", "own", "off"]
"""Whose data are measured: ``"split"``: every process is given the same data and takes its share;
``"own"``: every process has data of its own; ``"off"``: this process works by itself."""

Fact = TypeVar("Fact")


class ProcessFailedError(RuntimeError):
    """Another process failed, so that what all were to find out together cannot be known."""


class DisagreementError(ValueError):
    """The processes do not have in common what they must."""


class Team:
    """The processes that work together.

    :param rank: which of them this one is.
    :param size: how many there are.
    :param device: where the tensors to be exchanged are.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, device: torch.device | str | None = None
    ) -> None:
        self.rank, self.size, self.device = rank, size, torch.device(device or "cpu")

    @classmethod
    def of(cls, distributed: Distributed, device: torch.device | str | None = None) -> Team:
        """All processes of the default process group, or this one alone.

        :param distributed: ``"off"`` for this one alone.
        :param device: where this process computes.
        :raises ValueError: for an unknown option.
        """
        if distributed not in get_args(Distributed):
            options = ", ".join(get_args(Distributed))
            raise ValueError(f"distributed must be one of {options}; got {distributed!r}")
        if distributed == "off" or not (dist.is_available() and dist.is_initialized()):
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    def all_gather(self, fact: Fact) -> list[Fact]:
        """What every process says, in the order of their ranks. All wait until the last has come.

        :param fact: what this one says; anything that can be pickled.
        :raises ProcessFailedError: if another process failed inside :meth:`reporting`.
        """
        return [fact] if self.size == 1 else self._exchange(None, fact)

    def check_equal(self, fact: object, problem: str) -> None:
        """Makes sure that all processes say the same.

        :param fact: what this one says.
        :param problem: what is wrong, and what to do, if they do not.
        :raises DisagreementError: in all of them.
        """
        if any(other != fact for other in self.all_gather(fact)):
            raise DisagreementError(problem)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """An error inside is known to the others at their next :meth:`all_gather`: none waits.

        Every process must leave it after as many exchanges as the others.
        """
        try:
            yield
        except (ProcessFailedError, DisagreementError):  # which all of them know
            raise
        except Exception as error:
            if self.size > 1:
                self._exchange(f"{type(error).__name__}: {error}", None)
            raise

    def all_reduce_(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over the processes, the same bits in each.

        :param tensors: of dense memory, the same shapes and strides in every process.
        """
        for tensor in tensors if self.size > 1 else ():
            with self._here():
                sent = _memory(tensor).to(self._meeting_place())
                dist.all_reduce(sent)
                _memory(tensor).copy_(sent)

    def broadcast_(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by that of the first process, bit for bit.

        :param tensors: the same shapes and dtypes in every process.
        """
        for tensor in tensors if self.size > 1 else ():
            with self._here(), torch.no_grad():
                flat = tensor.detach().contiguous().flatten()
                sent = flat.view(torch.uint8).to(self._meeting_place())
                dist.broadcast(sent, src=0)
                received = sent.to(flat.device).view(flat.dtype)
                tensor.copy_(received.view(tensor.shape))

    def _exchange(self, error: str | None, fact: Fact) -> list[Fact]:
        told: list[tuple[str | None, Fact]] = [(None, fact)] * self.size
        with self._here():
            dist.all_gather_object(told, (error, fact))
        failures = [(rank, said) for rank, (said, _) in enumerate(told) if said is not None]
        if failures and error is None:
            rank, said = failures[0]
            raise ProcessFailedError(
                f"process {rank} of {self.size} failed, and this one (rank {self.rank}) stops with "
                f"it: {said}"
            )
        return [other for _, other in told]

    def _here(self) -> AbstractContextManager[object]:
        """NCCL meets on the current GPU."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _meeting_place(self) -> torch.device:
        """Where the process group can exchange tensors: where they are, if possible."""
        backends = dict(part.split(":") for part in dist.get_backend_config().split(","))
        if self.device.type in backends:
            return self.device
        return torch.device("cuda" if "cuda" in backends else "cpu")


def _memory(tensor: Tensor) -> Tensor:
    """The numbers of a dense tensor in the order of memory, whatever its strides."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))
