"""Runs cells on a Ray cluster, on one machine or many: each asks for its CPUs and GPUs.

Nothing is sent but the cell: no working directory, no environment. What a cell needs, this package
and its data, has to be on the nodes.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import torch

from ..silence import silence_libraries
from . import T

_RETRIES = 3  # of a cell whose worker was killed; a cell that fails would only fail again
_OBJECT_STORE = 80 * 2**20  # bytes, about Ray's least: cells and results are small

# Ray reads these when it is imported. The second is the one switch, whatever its name says, that
# has a cluster of one machine listen to this machine only.
_ALONE = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class RayExecutor:
    """An :class:`Executor` of Ray's workers.

    :param address: of a running cluster, as ``ray.init`` takes it; None: one is started on this
        machine, and ends with this process.
    :param workers: how many cells the started cluster has room for; a running one takes as many as
        fit.
    :param cpus: what a cell asks for, and the number of its threads. More than one thread adds
        numbers up in another order, so results may differ in their last digits.
    :param gpus: the same; a fraction shares a GPU. Without any, a cell sees no GPU.
    :raises ModuleNotFoundError: if Ray is not installed.
    :raises ConnectionError: if there is no cluster at the address.
    :raises ValueError: if no node of it has so many CPUs and GPUs.
    """

    def __init__(self, address: str | None, workers: int, cpus: int = 1, gpus: float = 0.0) -> None:
        if address is None:
            os.environ.update(_ALONE)
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise ModuleNotFoundError(
                "--executor ray needs Ray, which is not installed: pip install 'avalanche-mas[ray]'"
            ) from error
        self._needs = {"CPU": float(cpus), "GPU": gpus}
        self._cpus = cpus
        with _own_signals():
            self._connect(address, workers)
        self._task = self._ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES, retry_exceptions=False
        )(_call)
        try:
            self.check_room(self._needs)
        except ValueError:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """How many cells fit into the cluster as it is now; nodes may come and go."""
        return max(1, sum(_fitting(node, self._needs) for node in self._nodes()))

    def submit(self, function: Callable[..., T], /, *arguments: object) -> Future[T]:
        """See :meth:`Executor.submit`. If a worker is killed, its call is repeated elsewhere."""
        result: Future[T] = Future()

        def pass_on(done: Future[T]) -> None:
            error = done.exception()
            if error is None:
                result.set_result(done.result())
            else:
                result.set_exception(self._unwrapped(error))

        self._task.remote(self._cpus, function, *arguments).future().add_done_callback(pass_on)
        return result

    def close(self) -> None:
        """Leave the cluster, or end the one that was started, and all that still runs there."""
        with _own_signals():
            self._ray.shutdown()

    def _connect(self, address: str | None, workers: int) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is not None:
            _reach(address)
            self._ray.init(address, **quiet)
            return
        self._ray.init(
            "local",
            num_cpus=workers * self._cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            **quiet,
        )

    def _unwrapped(self, error: BaseException) -> BaseException:
        """The call's own error, without what Ray has wrapped around it."""
        if isinstance(error, self._ray.exceptions.RaySystemError):
            return ModuleNotFoundError(
                f"a node cannot load the cell; it needs this package, of the same version, "
                f"and cells that an installed `avalanche-mas` sent. {str(error).splitlines()[0]}"
            )
        cause: BaseException | None = getattr(error, "cause", None)
        return cause or error

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def check_room(self, needs: Mapping[str, float]) -> None:
        """Ask for a node that a cell fits on; Ray would wait for one for ever.

        :param needs: CPUs and GPUs.
        :raises ValueError: if there is none.
        """
        nodes = self._nodes()
        if not any(_fitting(node, needs) for node in nodes):
            there = "; ".join(f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in nodes)
            raise ValueError(
                f"no node has {needs['CPU']:g} CPUs and {needs['GPU']:g} GPUs for a cell; the "
                f"nodes have {there}: give other --cpus-per-cell or --gpus-per-cell, or add a node"
            )


def _fitting(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """How many cells a node has room for."""
    return min(int(node.get(key, 0.0) / need) for key, need in needs.items() if need)


def _reach(address: str) -> None:
    """Find out at once whether a cluster answers; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():
        return  # "auto", or Ray's client
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error


def _call(threads: int, function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a worker of Ray's."""
    torch.set_num_threads(threads)
    silence_libraries()
    return function(*arguments)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's way to answer SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
