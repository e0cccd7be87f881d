"""Executors run cells elsewhere: in processes of this machine, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

T = TypeVar("T")


class Executor(Protocol):
    """What the runner needs of an executor: :mod:`concurrent.futures`', which says its size."""

    @property
    def slots(self) -> int:
        """How many calls it can run at once now; at least 1."""

    def submit(self, function: Callable[..., T], /, *arguments: object) -> Future[T]:
        """Call ``function(*arguments)`` elsewhere.

        :param function: a function of a module, which is imported where it is called.
        :return: the result to be, or the error that ``function`` raised.
        """

    def close(self) -> None:
        """Release all that the executor holds."""


def start(
    name: str,
    workers: int,
    address: str | None = None,
    cpus_per_cell: int | None = None,
    gpus_per_cell: float | None = None,
) -> Executor:
    """Start an executor.

    :param name: ``local`` or ``ray``.
    :param workers: how many cells are run at a time on this machine; with 1 this process runs them.
    :param address: see :class:`.ray.RayExecutor`, as the rest; only for ``ray``.
    :raises ValueError: if an option is not this executor's.
    """
    check_options(name, cpus_per_cell, gpus_per_cell)
    if name == "ray":
        from .ray import RayExecutor

        return RayExecutor(address, workers, cpus_per_cell or 1, gpus_per_cell or 0.0)
    from .local import LocalExecutor
    from .serial import SerialExecutor

    return LocalExecutor(workers) if workers > 1 else SerialExecutor()


def check_options(name: str, cpus_per_cell: int | None, gpus_per_cell: float | None) -> None:
    """:raises ValueError: if an option is not this executor's."""
    given = {"--cpus-per-cell": cpus_per_cell, "--gpus-per-cell": gpus_per_cell}
    for option, value in given.items():
        if value is not None and name != "ray":
            raise ValueError(f"{option} needs --executor ray: a local worker has one core")
