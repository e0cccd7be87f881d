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


@pytest.fixture(autouse=True)
def _same_start():
    """Seed Python, NumPy and PyTorch, and give back the default dtype that a test changed."""
    dtype = torch.get_default_dtype()
    RNGManager.set_random_seeds(0)
    yield
    torch.set_default_dtype(dtype)
    assert torch.is_grad_enabled(), "the test has left autograd off"
