from dataclasses import replace

import pytest
from rich.console import Console
from run_counted import cell, result

from benchmarks.cli.plan import Planner, UnknownResultsError, duration


@pytest.fixture
def console():
    return Console(width=200, record=True)


def said(console):
    return " ".join(console.export_text().split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.9, "9.9 s"), (99.6, "100 s"), (150, "2.5 min"), (9000, "2.5 h")],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_time_is_estimated_from_runs_of_the_same_row(store, console):
    """By how much longer they took than was expected: 2 experiences, 1 epoch, 0.07 s."""
    short, long = cell("MAS", 0), replace(cell("MAS", 1), n_experiences=20)
    other = cell("EWC", 2)
    store.save(short, result(), seconds=0.28)  # twice as long
    with pytest.raises(UnknownResultsError, match="part"):
        Planner(store, console, 2)("part", [short, long, other])
    text = said(console)
    assert f"{short.name} │ finished │ 0.3 s" in text
    assert f"{long.name} │ to run │ ≈ 2.8 s" in text
    assert f"{other.name} │ to run │ ≈ 0.3 s" in text
    assert "2 to run. About 3.1 s of work, 2.8 s with 2 at a time." in text  # one is most of it
    assert "finished runs of the same row (1); finished runs of other rows (1)" in text


def test_nothing_is_made_up(store, console, monkeypatch):
    monkeypatch.setattr("benchmarks.digits.cell.DigitsCell.expected_seconds", None)
    with pytest.raises(UnknownResultsError):
        Planner(store, console, 2)("part", [cell("MAS", 0)])
    text = said(console)
    assert "to run │ ?" in text
    assert "is not known before" in text
    assert "About" not in text


def test_a_finished_part_gives_its_results(store, console):
    cells = [cell("MAS", 0), cell("EWC", 1)]
    for one in cells:
        store.save(one, result(one.seed))
    planner = Planner(store, console, 2)
    assert planner("part", cells) == {one: result(one.seed) for one in cells}
    assert "to run" not in said(console)
