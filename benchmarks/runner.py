"""Runs cells in worker processes, keeps each as soon as it is finished, never runs one twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from types import TracebackType
from typing import Generic

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from benchmarks.cell import CellT, ResultT
from benchmarks.silence import silence_libraries
from benchmarks.store import Store


class Runner(Generic[CellT, ResultT]):
    """Turns cells into results; a context manager, since it owns processes. ::

        with Runner(run_cell, store, workers=2) as run:
            results = run("choosing λ", cells)

    :param run_cell: does the work of one cell. Sent to other processes: a function of a module.
    :param store: where results are kept and looked up.
    :param workers: how many processes, one thread each.
    """

    def __init__(
        self, run_cell: Callable[[CellT], ResultT], store: Store[ResultT], workers: int
    ) -> None:
        self._run_cell = run_cell
        self._store = store
        # Spawned, not forked: a fork would inherit the state of torch's threads.
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_start_worker
        )
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
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __call__(self, title: str, cells: Iterable[CellT]) -> dict[CellT, ResultT]:
        """Run those of ``cells`` that have no result yet.

        :param title: what these cells are for, shown beside the progress bar.
        :param cells: what to run; the order of the results is theirs.
        :return: the results of all of them.
        :raises RuntimeError: if a cell fails; it names the cell.
        """
        results = {cell: self._store.load(cell) for cell in cells}
        waiting = [cell for cell, result in results.items() if result is None]
        bar = self._progress.add_task(
            title, total=len(results), completed=len(results) - len(waiting), last=""
        )
        running = {self._pool.submit(self._run_cell, cell): cell for cell in waiting}
        try:
            for future in as_completed(running):
                cell = running[future]
                results[cell] = self._keep(cell, future)
                self._progress.update(bar, advance=1, last=cell.name.rpartition("-")[0])
        except BaseException:
            self._finish({f: cell for f, cell in running.items() if results[cell] is None})
            raise
        return {cell: result for cell, result in results.items() if result is not None}

    def _keep(self, cell: CellT, future: Future[ResultT]) -> ResultT:
        try:
            result = future.result()
        except Exception as error:
            raise RuntimeError(f"{cell.name} failed: {error}") from error
        self._store.save(cell, result)
        return result

    def _finish(self, running: dict[Future[ResultT], CellT]) -> None:
        """Drop what has not begun; what has begun takes seconds more and is kept too."""
        self._progress.console.print("Stopping: the runs that have begun are finished and kept.")
        for future in running:
            future.cancel()
        for future, cell in running.items():
            if not future.cancelled() and future.exception() is None:
                self._store.save(cell, future.result())


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
