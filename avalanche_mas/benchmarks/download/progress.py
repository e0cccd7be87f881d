"""A progress bar of what is read from a file."""

from contextlib import AbstractContextManager
from typing import IO, Any

from tqdm.auto import tqdm


def reading(
    source: IO[bytes], title: str, verbose: bool, *, total: int | None, initial: int = 0
) -> AbstractContextManager[Any]:
    """Wrap a file so that a bar shows how much of it was read; the bar goes away at the end.

    :param source: the file.
    :param title: what is being done.
    :param verbose: show the bar, or nothing.
    :param total: bytes in all, if that is known.
    :param initial: bytes that were there before.
    :return: a context manager, which gives the file to read from.
    """
    return tqdm.wrapattr(
        source, "read", total, desc=title, initial=initial, leave=False, disable=not verbose
    )
