"""Progress bars that show each step."""

from functools import partialmethod

import pytest
from tqdm import tqdm


@pytest.fixture
def every_step_shown(monkeypatch):
    """Bars skip steps that follow each other fast; not here."""
    shown = partialmethod(tqdm.__init__, mininterval=0, miniters=1)
    monkeypatch.setattr(tqdm, "__init__", shown)
