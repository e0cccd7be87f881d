"""Runs cells in processes of this machine, one core each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

from ..silence import silence_libraries

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class LocalExecutor(ProcessPoolExecutor):
    """The standard library's pool of processes, made ready for torch.

    A process that dies takes the work of all others with it.

    :param workers: how many processes, one thread each.
    """

    def __init__(self, workers: int) -> None:
        self.slots = workers
        # Spawned, not forked: a fork would inherit the state of torch's threads.
        super().__init__(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)

    def submit(
        self,
        fn: Callable[Arguments, Value],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Value]:
        """Run ``fn`` in one of the processes, which may be started for it."""
        with _interrupts_blocked():
            return super().submit(fn, *args, **kwargs)

    def close(self) -> None:
        """End the processes when they have finished what they have begun."""
        self.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that is started inside never gets Ctrl-C, not even while it imports torch.

    It inherits that, and one that died then would take the work of the others with it. Here, the
    signal waits for the end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
