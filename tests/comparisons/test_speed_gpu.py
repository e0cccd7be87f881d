"""The suite for a GPU: on a bare machine, in miniature on a CPU, and its own counts on CUDA."""

import subprocess
import sys
from importlib.metadata import packages_distributions

import pandas as pd
import pytest
import torch

from benchmarks.speed import gpu
from benchmarks.speed.networks import NETWORKS
from benchmarks.speed.rows import SpeedSettings

BARE = {"torch", "torchvision", "triton", "numpy", "pandas", "safetensors", "nvidia", "cuda"}
BARE |= {"functorch", "torchgen"}  # of torch's
BARE |= {"PIL", "dateutil", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx"}
BARE |= {"pytz", "six", "sympy", "typing_extensions", "tzdata"}  # what those need

LACKING = set(packages_distributions()) - BARE - {"avalanche_mas"}
RUN_BARE = f"""
import runpy, sys
class Bare:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {LACKING!r}:
            return self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Bare, sys.meta_path)
runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)
"""


def test_a_trial_runs_on_a_bare_machine(tmp_path):
    arguments = ["speed", "--gpu", "--device", "cpu", "--out", str(tmp_path)]
    command = [sys.executable, "-c", RUN_BARE, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    table = pd.read_csv(tmp_path / "table.csv", index_col="way")
    assert list(table.columns) == [NETWORKS[name].title for name in gpu.TRIAL]
    for way in ("exact", "l-MAS", "torch.func.vmap", "batch-size-1 loop"):
        assert table.loc[way].str.match(r"\d+\.\d\d \(").all()
    assert "watched, B=1" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_a_wrong_way_is_an_exit_code(tmp_path, monkeypatch):
    monkeypatch.setitem(gpu.WAYS, "exact", gpu.WAYS[gpu.AVALANCHE])
    arguments = ["--device=cpu", "--model=mlp", f"--out={tmp_path}"]
    assert gpu.main(arguments) == 1
    assert "wrong: 6 of 6 tensors" in (tmp_path / "table.md").read_text(encoding="utf-8")


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_cuda
@pytest.mark.parametrize("network", ["mlp", "small-cnn", "bert", "lora", "lstm", "weight-norm"])
def test_on_a_gpu_importance_is_the_loops(network):
    gpu.check("exact", gpu.make_case(network, "cuda", quick=True))


@needs_cuda
@pytest.mark.parametrize("network", ["mlp", "small-cnn", "bert"])
def test_nothing_waits_for_the_gpu_inside_a_batch(network):
    line = gpu.measure(network, SpeedSettings(1, 1, "cuda", True))
    assert line["waits in a batch"] == "0"
