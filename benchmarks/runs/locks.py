"""Locks cells, so that commands that share a folder of results never run the same one."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from .cell import Cell


class CellLocks:
    """The cells that this process runs; others with the same folder leave these alone.

    The locks are the operating system's: each ends with the process that holds it, however that
    ends.

    :param folder: where the results lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ".locks"
        self._held: dict[Cell, FileLock] = {}

    def take(self, cell: Cell) -> bool:
        """Lock a cell.

        :return: whether it is ours now; otherwise another process runs it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / f"{cell.name}.lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        self._held[cell] = lock
        return True

    def release(self, cell: Cell) -> None:
        """Unlock a cell; the process that takes it next looks first whether it is finished."""
        lock = self._held.pop(cell)
        # While it is held: afterwards the file may be another process's lock.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

    def release_all(self) -> None:
        """Unlock all. The empty folder stays: another process may be about to put a lock there."""
        for cell in list(self._held):
            self.release(cell)
