"""Training on several processes is training on one; a process that fails ends the run."""

import sys

import pytest
import torch
from launch import run_until_stalled
from training import METHODS, avalanches_own_way, evaluation, methods, situations

from benchmarks.distributed.show import Shown, show

SITUATIONS = ["last mini-batch of one", "growing head", "no task labels", "joint"]
SITUATIONS += ["evaluated meanwhile", "a loop of one's own"]


@pytest.fixture(scope="module")
def expected():
    """What one process comes to."""
    return {
        "methods": methods(),
        "situations": situations(),
        "Avalanche's own way": avalanches_own_way(),
    }


def assert_trained_alike(ranks, one):
    """The same bits in all processes, and but for round-off those of one."""
    (first, samples), (alone, samples_alone) = ranks[0], one
    for state, _ in ranks[1:]:
        assert state.keys() == first.keys()
        assert all(torch.equal(state[name], first[name]) for name in first)
    assert first.keys() == alone.keys()
    assert not any("module." in name for name in first)
    for name, tensor in alone.items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-9, atol=1e-12)
    assert samples == samples_alone


@pytest.mark.parametrize("name", METHODS)
def test_methods(run, expected, name):
    """Three tasks, with a head each that is made when its task comes."""
    assert all(plugin.supports_distributed for plugin in METHODS[name]())
    ranks = [rank["methods"][name] for rank in run.ranks]
    assert_trained_alike(ranks, expected["methods"][name])
    if name != "finetuning":
        assert not torch.equal(
            ranks[0][0]["features.0.weight"],
            run.ranks[0]["methods"]["finetuning"][0]["features.0.weight"],
        )


@pytest.mark.parametrize("name", SITUATIONS)
def test_situations(run, expected, name):
    """Other models, data and strategies."""
    assert set(SITUATIONS) == set(expected["situations"])
    ranks = [rank["situations"][name] for rank in run.ranks]
    assert_trained_alike(ranks, expected["situations"][name])


@pytest.mark.parametrize("name", ["batchnorm", "replay", "float32"])
def test_processes_keep_the_same_bits(run, name):
    """Also where each draws its own weights and random numbers at first."""
    first = run.ranks[0]["drifting"][name]
    assert any(name.startswith("omega of classifier.classifiers.2") for name in first)
    for rank in run.ranks[1:]:
        other = rank["drifting"][name]
        assert other.keys() == first.keys()
        assert all(torch.equal(other[key], first[key]) for key in first)


def test_a_model_that_the_user_wrapped(run, expected):
    """Avalanche's own DistributedHelper and loaders: Ω has the names of the plain model."""
    ranks = [rank["Avalanche's own way"] for rank in run.ranks]
    assert_trained_alike(ranks, expected["Avalanche's own way"])


def test_every_process_evaluates_all_samples(run):
    """So that its metrics are those of one process."""
    alone = evaluation()
    assert len(alone) == 4
    assert [rank["evaluation"] for rank in run.ranks] == [alone] * run.size


@pytest.mark.parametrize("run", [2], indirect=True)
def test_the_script_that_shows_it(run):
    """benchmarks/distributed, run by these processes, and by this one."""
    here = show(1, 20, torch.device("cpu"))
    assert (here.processes, here.images, here.difference, here.same_bits) == (1, 1297, 0.0, True)
    for rank in run.ranks:
        shown = Shown(*rank["benchmark"])
        assert (shown.processes, shown.images, shown.same_bits) == (run.size, 1297, True)
        assert 0 < shown.difference < 1e-12
        assert shown.seconds_alone > 0
        assert shown.seconds_together > 0


def test_a_process_that_fails_ends_the_run(run):
    """With its own error; who waited for the others' time-out would be taken for hanging."""
    assert run.returncode != 0
    assert "OSError: cannot read image 5" in run.stderr
    assert f"rank      : {run.size - 1}" in run.stderr


HANGING = """
import faulthandler, os, signal, sys, time

def hangs():
    faulthandler.register(signal.SIGUSR1)
    while True:
        time.sleep(float(sys.argv[1]))

if os.fork():  # as torchrun, which waits for its ranks
    os.wait()
else:
    hangs()
"""


@pytest.mark.parametrize(
    ("every", "window"),
    [
        pytest.param("1000", 2, id="waits"),
        pytest.param("0.1", 2, id="wakes up now and then"),
        pytest.param("0", 1000, id="runs in a circle"),
    ],
)
def test_processes_that_hang_say_where(every, window, tmp_path):
    """And are stopped; however slow a machine is, no others are."""
    with pytest.raises(pytest.fail.Exception, match="in hangs"):
        run_until_stalled([sys.executable, "-c", HANGING, every], tmp_path, window, spent=2)
