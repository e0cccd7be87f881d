"""Runs cells in this process, one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future

from ..silence import silence_libraries
from . import T


class SerialExecutor:
    """An :class:`.Executor` for what cannot be sent to other processes, or need not be."""

    slots = 1

    def submit(self, function: Callable[..., T], /, *arguments: object) -> Future[T]:
        """Call a function at once; see :meth:`.Executor.submit`."""
        result: Future[T] = Future()
        with warnings.catch_warnings():
            silence_libraries()
            try:
                result.set_result(function(*arguments))
            except Exception as error:
                result.set_exception(error)
        return result

    def close(self) -> None:
        """Nothing is held."""
