"""Runs cells in processes of this machine, one core each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import torch

from ..silence import silence_libraries


class LocalExecutor(ProcessPoolExecutor):
    """The standard library's pool of processes, made ready for torch.

    A process that dies takes the work of all others with it.

    :param workers: how many processes, one thread each.
    """

    def __init__(self, workers: int) -> None:
        self.slots = workers
        # Spawned, not forked: a fork would inherit the state of torch's threads.
        super().__init__(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)

    def close(self) -> None:
        """End the processes when they have finished what they have begun."""
        self.shutdown(wait=True, cancel_futures=True)


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
