"""Where the work is done: in processes of this machine, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

T = TypeVar("T")


class Engine(Protocol):
    """What does work elsewhere."""

    @property
    def slots(self) -> int:
        """How many pieces of work it can do at once now; at least 1."""

    def submit(self, work: Callable[..., T], *arguments: object) -> Future[T]:
        """Have ``work(*arguments)`` done.

        :param work: a function of a module, which is imported where the work is done.
        :return: the result to be, or the error that ``work`` raised.
        """

    def close(self) -> None:
        """Let everything go that the engine holds."""


def start(
    name: str,
    workers: int,
    address: str | None = None,
    cpus_per_cell: int | None = None,
    gpus_per_cell: float | None = None,
) -> Engine:
    """Start an engine.

    :param name: ``local`` or ``ray``.
    :param workers: how many cells are worked on at a time on this machine.
    :param address: see :class:`~benchmarks.engines.ray.RayEngine`, as the rest; only for ``ray``.
    :raises ValueError: if an option is not this engine's.
    """
    if name == "ray":
        from .ray import RayEngine

        return RayEngine(address, workers, cpus_per_cell or 1, gpus_per_cell or 0.0)
    from .local import LocalEngine

    given = {"--cpus-per-cell": cpus_per_cell, "--gpus-per-cell": gpus_per_cell}
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option} needs --engine ray: a local worker has one core")
    return LocalEngine(workers)
