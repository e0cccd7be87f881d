import pytest

from avalanche_mas.miniature.facts import fact_miniature


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """Tests only read it."""
    return fact_miniature(tmp_path_factory.mktemp("6ds") / "mini", most=12, size=32, verbose=False)
