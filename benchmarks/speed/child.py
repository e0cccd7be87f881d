"""Runs a generator in a new process and hands on what it yields, as it comes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")

_ROOT = __name__.removesuffix(".speed.child")
_PRELOADED = [f"{_ROOT}.cli", f"{_ROOT}.speed.suite"]  # the first silences libraries


class _Failure(str):
    """A traceback, on its way to the parent."""


def in_child(
    function: Callable[..., Iterator[T]], *arguments: Any, environment: Mapping[str, str]
) -> Iterator[T]:
    """Iterate ``function(*arguments)`` in a process that starts afresh.

    Nothing that was measured before has then left its mark on the memory, and variables that a
    library reads when it is loaded take effect.

    :param function: a function of a module.
    :param environment: variables that the process starts with, beside the present ones.
    :raises RuntimeError: if it fails or dies; the message has the child's own traceback.
    """
    # Where the environment does not matter, a process is forked from one that has torch and
    # Avalanche loaded, and nothing else: they take seconds to import.
    forked = not environment and "forkserver" in multiprocessing.get_all_start_methods()
    get_context = multiprocessing.get_context
    context = get_context("forkserver") if forked else get_context("spawn")
    context.set_forkserver_preload(_PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_send_all, args=(sender, pickle.dumps((function, arguments))), daemon=True
    )
    with _variables(environment):
        process.start()
    sender.close()
    try:
        while True:
            try:
                item = receiver.recv()
            except EOFError:
                break
            if isinstance(item, _Failure):
                raise RuntimeError(f"{function.__module__}.{function.__name__} failed:\n{item}")
            yield item
        process.join()
        if process.exitcode:
            raise RuntimeError(
                f"{function.__module__}.{function.__name__}{arguments} died with exit code "
                f"{process.exitcode}; -9 means killed, mostly for lack of memory"
            )
    finally:
        process.terminate()
        process.join()
        receiver.close()


def _send_all(sender: Connection, pickled: bytes) -> None:
    # Ctrl-C reaches the whole process group; it is for the parent to decide what then happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries warn of what they cannot do: the figures say it. Pickled, the function is imported
    # no sooner than now.
    warnings.simplefilter("ignore")
    try:
        function, arguments = pickle.loads(pickled)
        for item in function(*arguments):
            sender.send(item)
    except BrokenPipeError:
        pass  # the parent is gone
    except Exception:
        sender.send(_Failure(traceback.format_exc()))
    finally:
        sender.close()


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
