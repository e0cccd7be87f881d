"""Who works on what, where several commands share a folder of results."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from .cell import AnyCell


class Claims:
    """The cells that this process works on; others with the same folder leave these alone.

    A claim is a lock of the operating system: it ends with the process that holds it, however that
    ends.

    :param folder: where the results lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ".claims"
        self._held: dict[AnyCell, FileLock] = {}

    def take(self, cell: AnyCell) -> bool:
        """Claim a cell.

        :return: whether it is ours now; or else somebody works on it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / f"{cell.name}.lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        self._held[cell] = lock
        return True

    def release(self, cell: AnyCell) -> None:
        """Give a cell free; whoever takes it next looks first whether it is finished."""
        lock = self._held.pop(cell)
        # While it is held: afterwards the file may be somebody else's claim.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

    def release_all(self) -> None:
        """Give all free. The empty folder stays: somebody may be about to put a claim there."""
        for cell in list(self._held):
            self.release(cell)
