"""Ctrl-C waits until a batch is done: then nothing of torch's is left half entered or half left."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Item = TypeVar("Item")
Handler = Callable[[int, "FrameType | None"], Any]

PATIENCE = 5.0
"""Seconds after which a second Ctrl-C is obeyed at once: perhaps the model hangs."""


class DeferredInterrupts:
    """A context in which Ctrl-C waits until the end, or until :meth:`allowed`.

    ``KeyboardInterrupt`` may be raised between any two calls of Python, also inside the
    ``__enter__`` and ``__exit__`` of the contexts that switch autograd, torch's modes or warnings,
    and these then stay switched. So inside this context the signal is only noted, and the handler
    that was there, Python's or the user's own, gets it afterwards.

    Contexts may be nested. Outside the main thread, where Python never handles signals, and where
    SIGINT has no handler in Python, nothing is done.
    """

    def __init__(self) -> None:
        self._handler: Handler | None = None
        self._allowed = False
        self._waits_since: float | None = None

    def __enter__(self) -> DeferredInterrupts:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        if self._handler is None:
            return
        if signal.getsignal(signal.SIGINT) == self._receive:  # no other was put there meanwhile
            signal.signal(signal.SIGINT, self._handler)
        self._allowed = True
        self._obey()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside, an interrupt is obeyed at once, as well as one that waits."""
        self._allowed = True
        self._obey()
        try:
            yield
        finally:
            self._allowed = False

    def between(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items. While the next one is made, interrupts are :meth:`allowed`."""
        iterator = iter(items)
        while True:
            with self.allowed():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _obey(self) -> None:
        if self._waits_since is not None:
            self._receive(signal.SIGINT, None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """The handler meanwhile."""
        now = time.monotonic()
        since = now if self._waits_since is None else self._waits_since
        if not self._allowed and now - since < PATIENCE:
            self._waits_since = since
            return
        # the first one ends what is allowed: its handler may raise, and a second one is to wait
        allowed, self._allowed, self._waits_since = self._allowed, False, None
        assert self._handler is not None
        self._handler(number, frame)
        self._allowed = allowed
