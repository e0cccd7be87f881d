import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from run_counted import cell, result, slow_cells, working

from benchmarks.runs.executors.local import LocalExecutor
from benchmarks.runs.locks import CellLocks
from benchmarks.runs.runner import WorkerDiedError


def test_finished_cells_are_never_run_again(log, store):
    cells = [cell("a"), cell("b", 1), cell("c", 2)]
    with working(LocalExecutor(1), store) as run:
        assert run("part", cells[:2]) == {cells[0]: result(0), cells[1]: result(1)}
        assert log() == ["a", "b"]
        assert list(run("all", cells)) == cells
    assert log() == ["a", "b", "c"]
    with working(LocalExecutor(2), store) as run:  # as after a restart
        results = run("all", cells)
    assert results == {cell: result(cell.seed) for cell in cells}
    assert log() == ["a", "b", "c"]
    assert {path for path in store.folder.rglob("*") if path.is_file()} == set(
        map(store.path, cells)
    )


def test_only_a_damaged_cell_is_run_again(log, store):
    cells = [cell("a"), cell("b", 1)]
    with working(LocalExecutor(1), store) as run:
        run("all", cells)
        damaged = store.path(cells[0])
        damaged.write_text(damaged.read_text()[:40])
        assert run("all", cells)[cells[0]] == result(0)
    assert log() == ["a", "a", "b"]


def test_a_failing_cell_is_named_and_the_others_are_kept(log, store):
    cells = [cell("a"), cell("fails"), *(cell("slow", seed) for seed in range(20))]
    with (
        working(LocalExecutor(2), store) as run,
        pytest.raises(RuntimeError, match=r"permuted-test-fails-1-seed0.*always fails"),
    ):
        run("all", cells)
    assert store.load(cells[0]) == result(0)
    assert log().count("slow") < 20  # what had not begun was dropped
    assert sum(store.load(c) is not None for c in cells) == len(log()) - 1  # but all begun is kept


def test_a_dead_worker_is_an_error_not_a_hang(log, store):
    with (
        working(LocalExecutor(1), store) as run,
        pytest.raises(
            WorkerDiedError, match=r"has died or was killed.*In work were permuted.*dies"
        ),
    ):
        run("all", [cell("dies")])


def test_a_cell_that_another_works_on_is_left_to_it(log, store, wait_for):
    others, mine = cell("another's", 1), cell("mine", 2)
    another = CellLocks(store.folder)
    assert another.take(others)

    def finish():
        wait_for(lambda: store.load(mine) is not None)  # what is left is not held up
        store.save(others, result(7))
        another.release_all()

    thread = threading.Thread(target=finish)
    thread.start()
    with working(LocalExecutor(2), store) as run:
        assert run("all", [others, mine]) == {others: result(7), mine: result(2)}
    thread.join()
    assert log() == ["mine"]


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; from run_counted import cell; "
        "from benchmarks.runs.locks import CellLocks; locks = CellLocks(Path(sys.argv[1])); "
        "print(locks.take(cell('a')), flush=True); sys.stdin.read()"
    )
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": folders},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "True\n"
        mine = CellLocks(tmp_path)
        assert not mine.take(cell("a"))
        assert mine.take(cell("b"))
        process.kill()
    assert mine.take(cell("a"))
    mine.release_all()
    assert not list((tmp_path / ".locks").iterdir())


def test_two_commands_share_the_work(driver, log, store):
    for process in [driver(), driver()]:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert log() == sorted(c.method for c in slow_cells())  # each once
    assert all(store.load(c) == result(c.seed) for c in slow_cells())
    assert not list((store.folder / ".locks").iterdir())


def test_ctrl_c_keeps_what_was_begun_and_a_restart_goes_on(driver, log, store, wait_for):
    process = driver()
    wait_for(lambda: list(store.folder.glob("*.json")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    begun = log()
    assert 0 < len(begun) < len(slow_cells())
    kept = [c for c in slow_cells() if store.load(c) is not None]
    assert sorted(c.method for c in kept) == begun
    with working(LocalExecutor(2), store) as run:
        assert len(run("rest", kept)) == len(begun)
    assert log() == begun
    assert not list(store.folder.glob("*.tmp"))


def test_ctrl_c_does_not_end_a_worker_that_is_still_starting(driver, log, store, wait_for):
    process = driver()
    wait_for(lambda: len(_workers(process)) == 2 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)  # they import torch
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    assert log() == ["slow0", "slow1"]
    assert [c.method for c in slow_cells() if store.load(c) is not None] == log()


def test_workers_do_not_outlive_a_killed_parent(driver, log, store, wait_for):
    process = driver()
    wait_for(lambda: list(store.folder.glob("*.json")) or process.poll() is not None)
    workers = _workers(process)
    assert workers
    process.kill()
    wait_for(lambda: not any(_alive(pid) for pid in workers))


def _workers(process):
    """The pool's processes, from when they have begun to start Python."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("needs Linux's /proc")
    with suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
        return [
            int(pid)
            for pid in children.read_text().split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
    return []


def _alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
