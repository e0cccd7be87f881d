import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from run_counted import LOG, result, run_counted

from benchmarks.cell import Cell, Result, Training
from benchmarks.runner import Runner
from benchmarks.store import Store

TRAINING = Training(hidden_units=1, learning_rate=0.1, momentum=0.0, batch_size=1, epochs=1)


def cell(method, seed=0):
    return Cell("permuted", 2, method, 1.0, seed, 0.0, TRAINING)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Give the names of the cells that were run so far."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv(LOG, str(path))
    return lambda: sorted(path.read_text().split())


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "digits", {"a setting": 1}, Result)


def test_finished_cells_are_never_run_again(log, store):
    cells = [cell("a"), cell("b", 1), cell("c", 2)]
    with Runner(run_counted, store, workers=1) as run:
        assert run("part", cells[:2]) == {cells[0]: result(0), cells[1]: result(1)}
        assert log() == ["a", "b"]
        assert list(run("all", cells)) == cells
    assert log() == ["a", "b", "c"]
    with Runner(run_counted, store, workers=2) as run:  # as after a restart
        results = run("all", cells)
    assert results == {cell: result(cell.seed) for cell in cells}
    assert log() == ["a", "b", "c"]


def test_only_a_damaged_cell_is_run_again(log, store):
    cells = [cell("a"), cell("b", 1)]
    with Runner(run_counted, store, workers=1) as run:
        run("all", cells)
        damaged = store.path(cells[0])
        damaged.write_text(damaged.read_text()[:40])
        assert run("all", cells)[cells[0]] == result(0)
    assert log() == ["a", "a", "b"]


def test_a_failing_cell_is_named_and_the_others_are_kept(log, store):
    cells = [cell("a"), cell("fails"), *(cell("slow", seed) for seed in range(20))]
    with (
        Runner(run_counted, store, workers=1) as run,
        pytest.raises(RuntimeError, match=r"permuted-test-fails-1-seed0.*always fails"),
    ):
        run("all", cells)
    assert store.load(cells[0]) == result(0)
    assert log().count("slow") < 20  # what had not begun was dropped
    assert sum(store.load(c) is not None for c in cells) == len(log()) - 1  # but all begun is kept


def test_a_dead_worker_is_an_error_not_a_hang(log, store):
    with (
        Runner(run_counted, store, workers=1) as run,
        pytest.raises(RuntimeError, match="dies"),
    ):
        run("all", [cell("dies")])


@pytest.fixture
def long_run(tmp_path, log):
    """Start a process that runs twenty slow cells on two workers, and wait for a result."""
    script = tmp_path / "long_run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path[:0] = {[str(Path(__file__).parent), str(Path.cwd())]}
            from pathlib import Path
            from run_counted import run_counted
            from test_runner import Result, Runner, Store, cell

            if __name__ == "__main__":
                store = Store(Path({str(tmp_path / "digits")!r}), {{}}, Result)
                with Runner(run_counted, store, workers=2) as run:
                    run("all", [cell("slow", seed) for seed in range(20)])
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        # Shells let what they start in the background ignore it, and this would be inherited.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        _wait(lambda: list((tmp_path / "digits").glob("*.json")) or process.poll() is not None)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers too, should they have survived
        process.communicate()


def _wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_ctrl_c_keeps_what_was_begun_and_a_restart_goes_on(long_run, log, store):
    os.killpg(long_run.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = long_run.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    begun = len(log())
    assert 0 < begun < 20
    cells = [cell("slow", seed) for seed in range(20)]
    assert sum(store.load(c) is not None for c in cells) == begun
    with Runner(run_counted, store, workers=2) as run:
        assert len(run("rest", cells[:begun])) == begun
    assert not list(store.folder.glob("*.tmp"))


def test_workers_do_not_outlive_a_killed_parent(long_run):
    children = Path(f"/proc/{long_run.pid}/task/{long_run.pid}/children")
    if not children.exists():
        pytest.skip("needs Linux's /proc")
    workers = [int(pid) for pid in children.read_text().split()]
    assert workers
    long_run.kill()
    _wait(lambda: not any(_alive(pid) for pid in workers))


def _alive(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
