import pytest

from benchmarks.training.selection import Choice, choose, widen


@pytest.mark.parametrize(
    ("scores", "choice"),
    [
        ({0.1: 0.5, 1.0: 0.9, 10.0: 0.7}, Choice(1.0, at_edge=False)),
        ({0.1: 0.9, 1.0: 0.9, 10.0: 0.7}, Choice(0.1, at_edge=False)),  # tie: the smaller, level
        ({10.0: 0.9, 1.0: 0.9, 0.1: 0.7}, Choice(1.0, at_edge=False)),  # whatever the order
        ({0.1: 0.5, 1.0: 0.5, 10.0: 0.5}, Choice(0.1, at_edge=False)),  # λ does nothing
        ({0.1: 0.9, 1.0: 0.8, 10.0: 0.7}, Choice(0.1, at_edge=True)),
        ({0.1: 0.7, 1.0: 0.8, 10.0: 0.9}, Choice(10.0, at_edge=True)),
        ({1.0: 0.7}, Choice(1.0, at_edge=False)),
    ],
)
def test_choice(scores, choice):
    assert choose(scores) == choice


def test_the_grid_grows_where_the_best_is_at_its_edge():
    assert widen({0.1: 0.9, 1.0: 0.8}, ratio=10.0) == pytest.approx(0.01)
    assert widen({0.1: 0.8, 1.0: 0.9}, ratio=10.0) == pytest.approx(10.0)
    assert widen({0.1: 0.8, 1.0: 0.9, 10.0: 0.8}, ratio=10.0) is None
    assert widen({0.1: 0.9, 1.0: 0.9}, ratio=10.0) is None


def test_nothing_to_choose_from():
    with pytest.raises(ValueError, match="no λ"):
        choose({})
