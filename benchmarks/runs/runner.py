"""Runs cells on an executor and stores each result once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import nullcontext
from types import TracebackType
from typing import Generic, TypeAlias

from rich import get_console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from avalanche_mas.importance.interrupts import DeferredInterrupts

from .cell import CellT, ResultT
from .executors import Executor
from .locks import CellLocks
from .store import CellStore, versions

_LOOK_AGAIN = 1.0  # seconds: have others finished their cells, has the executor more room?

Finished: TypeAlias = tuple[ResultT, float, str]
"""A result, the seconds that it took, and the versions that made it."""


class WorkerDiedError(RuntimeError):
    """A process that ran cells has ended by itself, or was killed."""


class Runner(Generic[CellT, ResultT]):
    """Turns cells into results; a context manager, since it shows how far it is. ::

        with LocalExecutor(workers=2) as executor, Runner(run_cell, store, executor) as run:
            results = run("choosing λ", cells)

    Where it does not write to a terminal, a line for each finished cell takes the bar's place.

    Several runners, on one machine or on many, can share a folder: each takes the cells that are
    neither finished nor running, and waits for those that another one runs.

    :param run_cell: does the work of one cell. Sent to other processes: a function of a module.
    :param store: where results are stored and looked up.
    :param executor: where cells are run.
    :param verbose: whether to show how far it is.
    """

    def __init__(
        self,
        run_cell: Callable[[CellT], ResultT],
        store: CellStore[ResultT],
        executor: Executor,
        verbose: bool = True,
    ) -> None:
        self._run_cell = run_cell
        self._store = store
        self._executor = executor
        self._locks = CellLocks(store.folder)
        self._lines = verbose and not get_console().is_terminal
        self.ran = 0
        """How many cells were run, not looked up."""
        self._progress = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            TextColumn(
                "{task.fields[last]}",
                style="dim",
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            expand=True,
            disable=not (verbose and get_console().is_terminal),
            speed_estimate_period=24 * 3600.0,  # seconds: a single cell may take minutes
        )

    def __enter__(self) -> Runner[CellT, ResultT]:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._locks.release_all()

    def __call__(self, title: str, cells: Iterable[CellT]) -> dict[CellT, ResultT]:
        """Run those of ``cells`` that have no result yet.

        :param title: what these cells are for, shown beside the progress bar.
        :param cells: what to run; the order of the results is theirs.
        :return: the results of all of them.
        :raises RuntimeError: if a cell fails; it names the cell.
        :raises WorkerDiedError: if a worker dies.
        """
        order = list(dict.fromkeys(cells))
        results = {cell: found for cell in order if (found := self._store.load(cell)) is not None}
        waiting = deque(cell for cell in order if cell not in results)
        bar = self._progress.add_task(title, total=len(order), completed=len(results), last="")
        running: dict[Future[Finished[ResultT]], CellT] = {}
        try:
            while waiting or running:
                results |= self._begin(waiting, running)
                self._progress.update(bar, completed=len(results))
                if not running:  # all that is left is running elsewhere
                    time.sleep(_LOOK_AGAIN if waiting else 0.0)
                    continue
                done, _ = wait(running, _LOOK_AGAIN if waiting else None, FIRST_COMPLETED)
                for future in done:
                    cell = running[future]
                    results[cell] = self._keep(cell, future)
                    del running[future]
                    last = cell.name.rpartition("-")[0]
                    self._progress.update(bar, completed=len(results), last=last)
                    self.ran += 1
                    if self._lines:
                        took = f"{last}, {future.result()[1]:.1f} s"
                        print(f"{title}: {len(results)} of {len(order)} ({took})", flush=True)
        except BrokenExecutor as error:
            self._finish(running)
            at_work = ", ".join(cell.name for cell in running.values()) or "nothing"
            raise WorkerDiedError(
                "a process that ran cells has died or was killed, perhaps for want of memory. In "
                f"work were {at_work}. The same command goes on; --workers 1 needs least memory."
            ) from error
        except BaseException:
            self._finish(running)
            raise
        return {cell: results[cell] for cell in order}

    def _begin(
        self, waiting: deque[CellT], running: dict[Future[Finished[ResultT]], CellT]
    ) -> dict[CellT, ResultT]:
        """Submit as many cells as the executor has room for, of those that no other command runs.

        :return: those that turn out to be finished, by others with the same folder.
        """
        finished = {}
        room = self._executor.slots - len(running)
        for _ in range(len(waiting)):
            if room <= 0:
                break
            cell = waiting.popleft()
            if not self._locks.take(cell):
                waiting.append(cell)
                continue
            result = self._store.load(cell)  # again, now that no other command can write it
            if result is None:
                # What has begun elsewhere must be known here; what is run here may be interrupted.
                with DeferredInterrupts() if self._executor.slots > 1 else nullcontext():
                    running[self._executor.submit(_timed, self._run_cell, cell)] = cell
                room -= 1
            else:
                finished[cell] = result
                self._locks.release(cell)
        return finished

    def _keep(self, cell: CellT, future: Future[Finished[ResultT]]) -> ResultT:
        try:
            result, seconds, origin = future.result()
        except BrokenExecutor:
            raise  # it is not about this cell
        except Exception as error:
            raise RuntimeError(f"{cell.name} failed: {error}") from error
        self._store.save(cell, result, seconds, origin)
        self._locks.release(cell)
        return result

    def _finish(self, running: dict[Future[Finished[ResultT]], CellT]) -> None:
        """Wait for what has begun, and keep it too; nothing else was submitted."""
        self._progress.console.print("Stopping: the runs that have begun are finished and kept.")
        for future, cell in running.items():
            if future.exception() is None:
                self._keep(cell, future)


def _timed(run_cell: Callable[[CellT], ResultT], cell: CellT) -> Finished[ResultT]:
    started = time.perf_counter()
    result = run_cell(cell)
    return result, time.perf_counter() - started, versions()
