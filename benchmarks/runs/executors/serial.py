"""Runs cells in this process, one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future

import torch

from ..silence import silence_libraries
from . import T


class SerialExecutor:
    """An :class:`.Executor` for what cannot be sent to other processes, or need not be."""

    slots = 1

    def submit(self, function: Callable[..., T], /, *arguments: object) -> Future[T]:
        """Call a function at once, on one core; see :meth:`.Executor.submit`."""
        result: Future[T] = Future()
        threads = torch.get_num_threads()
        with warnings.catch_warnings():
            silence_libraries()
            torch.set_num_threads(1)  # so that its numbers are those of a process of its own
            try:
                result.set_result(function(*arguments))
            except Exception as error:
                result.set_exception(error)
            finally:
                torch.set_num_threads(threads)
        return result

    def close(self) -> None:
        """Nothing is held."""
