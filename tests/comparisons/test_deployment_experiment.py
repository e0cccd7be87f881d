"""The experiment on deployment, in miniature, and what is committed of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmarks.deployment.cell import EVERYTHING, DeploymentCell, name_of
from benchmarks.experiments import deployment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcome():
    def run_cells(title, cells):
        return {cell: deployment.run_cell(cell) for cell in cells}

    return deployment.run(deployment.FAST, run_cells)


def test_importance_moves_towards_the_use(outcome):
    """And on to the next one."""
    (run,) = outcome.arriving
    first, second = map(name_of, outcome.settings.used)
    end = run.seen.index(run.ends[0])
    at_end = {name: line[end] for name, line in run.rank_correlation.items()}
    assert max(at_end, key=at_end.get) == first
    line = run.rank_correlation[second]
    assert line[-1] > line[end]
    assert run.seen == sorted(run.seen)
    assert run.ends[-1] == run.seen[-1]


def test_what_is_protected_changes_less(outcome):
    lam = outcome.settings.lambdas[0]
    free = np.mean(outcome.of(None, 0.0, "changed", (0, 1)))
    for digits in (EVERYTHING, *outcome.settings.used):
        assert np.mean(outcome.of(digits, lam, "changed", (0, 1))) < free


def test_gains_are_those_of_the_use_over_all_digits(outcome):
    further = [np.mean(outcome.further(used, 10.0)) for used in outcome.settings.used]
    (gain,) = outcome.further_gains(10.0)
    assert gain == pytest.approx(np.mean(further) - np.mean(outcome.further(EVERYTHING, 10.0)))
    kept = [
        np.mean(outcome.of(used, 10.0, "after", used))
        - np.mean(outcome.of(EVERYTHING, 10.0, "after", used))
        for used in outcome.settings.used
    ]
    assert outcome.used_gains(10.0) == [pytest.approx(np.mean(kept))]


def test_the_report_says_what_was_measured(outcome, tmp_path):
    files = outcome.write(tmp_path, Console(quiet=True), "Made here.")
    table = pd.read_csv(tmp_path / "table.csv").set_index("Ω of")
    assert list(table.index) == ["all digits", "0 and 1", "8 and 9", "finetuning"]
    (changed,) = outcome.of((0, 1), 10.0, "changed", (8, 9))
    assert table.loc["0 and 1", "changed, 8 and 9"] == pytest.approx(changed, abs=0.05)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "After use on 8 and 9: rank correlation" in text
    assert "Made here." in text
    assert files[-1].stat().st_size > 10_000


def test_cells_have_names_of_their_own():
    settings = deployment.SETTINGS
    cells = [
        DeploymentCell(used, lam, seed, settings)
        for used in (settings.used, ((0, 1),), (EVERYTHING,), ())
        for lam in (None, 0.0, 1.0)
        for seed in (0, 1)
    ]
    assert len({cell.name for cell in cells}) == len(cells)


def test_the_page_shows_the_committed_picture():
    made = ROOT / "benchmarks" / "results" / "deployment" / "deployment.png"
    assert (ROOT / "docs" / "images" / "deployment.png").read_bytes() == made.read_bytes()
