"""What every test starts from: a known seed, one thread, no display."""

import os

# Before torch and matplotlib are imported, and passed on to the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# Ray's workers give way to every other process otherwise: beside busy ones they hardly ran at all.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as Ray spells it

import hypothesis
import pytest
import torch
from avalanche.training.determinism.rng_manager import RNGManager

torch.set_num_threads(1)

# Several files of this name are no modules to look for examples in.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]

# The first example of a test may have to import or compile something: no deadline for one example.
hypothesis.settings.register_profile("local", deadline=None)
# In CI every run draws the same examples, so that a failure there is the fault of the change.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


# Files, and a folder, whose few tests take long, as they start processes of their own.
_LONG = {
    *("test_runner.py", "test_command_line.py", "test_speed.py", "test_kills.py"),
    *("test_package.py", "test_ray.py", "test_main_job.py", "test_official_settings.py"),
    *("test_object_experiments.py", "test_fact_experiments.py", "test_class_incremental.py"),
    *("test_speed_gpu.py", "test_steps.py", "test_compat.py", "test_readme.py"),
    *("test_examples.py", "distributed"),
}


def pytest_configure(config):
    """Take files in the order below; else xdist begins with those of many tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Begin with what takes long, so that in the end no process waits for another's last file."""
    items.sort(key=lambda item: _LONG.isdisjoint((item.path.name, item.path.parent.name)))


@pytest.fixture(scope="session")
def folder_of_all_workers(tmp_path_factory):
    """Where the workers of xdist find what one of them has made."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(autouse=True)
def _same_start():
    """Seed Python, NumPy and PyTorch, and give back the default dtype that a test changed."""
    dtype = torch.get_default_dtype()
    RNGManager.set_random_seeds(0)
    yield
    torch.set_default_dtype(dtype)
    assert torch.is_grad_enabled(), "the test has left autograd off"
