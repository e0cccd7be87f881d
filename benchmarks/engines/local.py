"""Work in processes of this machine, one core each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor

import torch

from ..silence import silence_libraries
from . import T


class LocalEngine:
    """An :class:`~benchmarks.engines.Engine` of processes.

    :param workers: how many processes, one thread each.
    """

    def __init__(self, workers: int) -> None:
        self.slots = workers
        # Spawned, not forked: a fork would inherit the state of torch's threads.
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_start_worker
        )

    def submit(self, work: Callable[..., T], *arguments: object) -> Future[T]:
        """See :meth:`Engine.submit`. A process that dies takes all others' work with it."""
        return self._pool.submit(work, *arguments)

    def close(self) -> None:
        """End the processes when they have finished what they have begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Prepare a process: one thread, silent, and never outliving the one that started it."""
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group; it is for the parent to decide what then happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    silence_libraries()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
