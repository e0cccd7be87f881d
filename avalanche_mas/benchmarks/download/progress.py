"""Progress bars for work that is counted in bytes or in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Report = Callable[[int, int | None], None]
"""Is called with how much is done, and how much there is in all, if that is known."""


def silent(done: int, total: int | None) -> None:
    """Report to nobody."""


@contextmanager
def bar(console: Console, title: str, *, in_bytes: bool = True) -> Iterator[Report]:
    """Show a progress bar, which goes away at the end; a file or a pipe gets none.

    :param console: where to show it.
    :param title: what is being done.
    :param in_bytes: whether bytes are counted, or whole things.
    """
    columns = [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    shown = [TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn()]
    off = not console.is_terminal
    with Progress(*shown, console=console, transient=True, disable=off) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
