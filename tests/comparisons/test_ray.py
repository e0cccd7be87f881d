"""The executor of Ray, on real clusters of two workers."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from run_counted import LOG, cell, result, run_counted, slow_cells
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.runs.executors import start
from benchmarks.runs.runner import Runner

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """An executor with a cluster of its own, the log of its workers, and its address."""
    log = tmp_path_factory.mktemp("cluster") / "log"
    log.touch()
    with pytest.MonkeyPatch.context() as patch:  # the workers inherit these
        patch.setenv(LOG, str(log))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        executor = start("ray", 2)
        yield executor, log, ray.get_runtime_context().gcs_address
        executor.close()


@pytest.fixture
def run(cluster, store):
    executor, _, _ = cluster
    with Runner(run_counted, store, executor) as run:
        yield run


def pids(log, method):
    """The processes that began a cell, one after the other."""
    lines = [line.rpartition(" ") for line in log.read_text().splitlines()]
    return [int(pid) for name, _, pid in lines if name == method]


def test_a_killed_worker_is_replaced(cluster, run, store, wait_for):
    _, log, _ = cluster
    cells = [cell("waits to be killed", 1), cell("goes on", 2)]
    found = {}
    thread = threading.Thread(target=lambda: found.update(run("all", cells)))
    thread.start()
    wait_for(lambda: pids(log, "waits to be killed") and store.load(cells[1]) is not None)
    (victim,) = pids(log, "waits to be killed")
    os.kill(victim, signal.SIGKILL)
    thread.join()
    assert found == {c: result(c.seed) for c in cells}
    first, second = pids(log, "waits to be killed")
    assert first == victim != second
    assert len(pids(log, "goes on")) == 1


def test_a_failing_cell_is_named_and_not_tried_again(cluster, run):
    _, log, _ = cluster
    with pytest.raises(RuntimeError, match=r"^permuted-test-fails-1-seed0.* always fails$"):
        run("all", [cell("fails")])
    assert len(pids(log, "fails")) == 1


def test_two_drivers_share_the_work_and_ctrl_c_keeps_what_was_begun(
    cluster, driver, store, wait_for
):
    _, log, address = cluster
    drivers = [driver("ray", address), driver("ray", address)]
    wait_for(lambda: len(list(store.folder.glob("*.json"))) > 1)
    os.killpg(drivers[0].pid, signal.SIGINT)
    _, errors = drivers[0].communicate()
    assert "KeyboardInterrupt" in errors
    _, errors = drivers[1].communicate()
    assert drivers[1].returncode == 0, errors
    assert all(store.load(c) == result(c.seed) for c in slow_cells())
    assert [len(pids(log, c.method)) for c in slow_cells()] == [1] * len(slow_cells())


def test_an_unfitting_request_is_refused(cluster):
    executor, _, _ = cluster
    assert executor.slots == 2
    with pytest.raises(ValueError, match=r"no node has 1 CPUs and 99 GPUs.*--gpus-per-cell"):
        executor.check_room({"CPU": 1, "GPU": 99})


@pytest.mark.parametrize(
    ("missing", "options", "said"),
    [
        (True, ["--executor", "ray"], "pip install 'avalanche-mas[ray]'"),
        (
            False,
            ["--executor", "ray", "--address", "127.0.0.1:1"],
            "no Ray cluster answers at 127.0.0.1:1",
        ),
        (False, ["--gpus-per-cell", "1"], "--gpus-per-cell needs --executor ray"),
    ],
)
def test_what_cannot_start_is_told(missing, options, said, tmp_path, monkeypatch):
    if missing:
        monkeypatch.setitem(sys.modules, "ray", None)
    answer = CliRunner().invoke(app, ["run", "digits", "--fast", "--out", str(tmp_path), *options])
    assert answer.exit_code == 1
    assert said in answer.output
    assert not list(tmp_path.iterdir())
