"""Claims: the verdict's rule, and that each claim is read off what its experiment reports."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from made_up import as_claimed
from scipy.stats import ttest_rel
from typer.testing import CliRunner

from benchmarks.claims.paper import CLAIMS
from benchmarks.claims.report import check_claims
from benchmarks.claims.results import Results
from benchmarks.claims.verdict import FAILS, HOLDS, NOT_RUN, OPEN, judge
from benchmarks.cli import app
from benchmarks.experiments import load
from benchmarks.runs.store import read_cells, write_cells

INF = float("inf")
NOISE = np.array([-0.2, 0.1, 0.0, 0.2, -0.1])


@pytest.mark.parametrize(
    ("mean", "low", "high", "word"),
    [
        (-1.0, -INF, 0.0, HOLDS),
        (1.0, -INF, 0.0, FAILS),
        (-0.05, -INF, 0.0, OPEN),
        (0.05, -INF, 0.0, OPEN),
        (0.0, -1.0, 1.0, HOLDS),
        (0.9, -1.0, 1.0, OPEN),
        (2.0, -1.0, 1.0, FAILS),
        (-2.0, -1.0, 1.0, FAILS),
        (1.0, 0.0, INF, HOLDS),
        (-1.0, 0.0, INF, FAILS),
    ],
)
def test_what_is_inside_holds_what_is_outside_does_not_and_what_is_near_is_open(
    mean, low, high, word
):
    assert judge(mean + NOISE, low, high).word == word


def test_against_zero_it_is_the_paired_test():
    ours, than = NOISE + 3, NOISE[::-1] + 2.5
    assert judge(ours - than, high=0.0).p == pytest.approx(ttest_rel(ours, than).pvalue)


def test_few_seeds_decide_nothing_and_equal_ones_need_no_test():
    assert judge(NOISE[:4] - 9, high=0.0).word == OPEN
    assert judge([-1.0] * 5, high=0.0) == judge([-1e-9] * 5, high=0.0)
    assert judge([-1.0] * 5, high=0.0).p is None
    assert judge([1.0] * 5, high=0.0).word == FAILS
    assert judge([0.0] * 5, high=0.0).word == OPEN


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Five seeds of each experiment that a claim is about, published, with the paper right."""
    folder = tmp_path_factory.mktemp("published")
    files = {}

    def run(title, cells):
        results = {cell: as_claimed(cell) for cell in cells}
        for cell, result in results.items():
            whole = {"cell": asdict(cell), "result": asdict(result), "versions": "made up"}
            files[folder / kept / "cells.jsonl"][cell.name] = whole
        return results

    for name in dict.fromkeys(claim.experiment for claim in CLAIMS):
        module = load(name)
        kept = getattr(module.SETTINGS, "cells", name)
        files.setdefault(folder / kept / "cells.jsonl", {})
        module.run(replace(module.SETTINGS, seeds=tuple(range(5))), run)
    for file, contents in files.items():
        write_cells(file, contents)
    return folder


@pytest.fixture(scope="module")
def findings(published, tmp_path_factory):
    """By claim, what is found of it."""
    report, origin = check_claims(CLAIMS, Results(tmp_path_factory.mktemp("results"), published))
    assert origin == "Made with made up."
    return {found.claim: found for found in report.findings}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.source}: {claim.says}")
def test_each_claim_is_read_off_what_its_experiment_reports(findings, claim):
    found = findings[claim]
    assert found.seeds == 5
    assert found.verdict.word == HOLDS, found


def test_the_opposite_does_not_hold(findings, published, tmp_path):
    """What was claimed of one row is claimed of the other."""
    turned = [
        replace(claim, ours=claim.than, than=claim.ours)
        for claim in CLAIMS
        if claim.than and (claim.low, claim.high) in [(-INF, 0), (0, INF)]
    ]
    report, _ = check_claims(turned, Results(tmp_path, published))
    assert len(report.findings) > 15
    assert {found.verdict.word for found in report.findings} == {FAILS}


def test_what_was_not_run_is_in_the_table_with_its_command(tmp_path):
    report, _ = check_claims(CLAIMS, Results(tmp_path, tmp_path))
    assert {found.verdict.word for found in report.findings} == {NOT_RUN}
    assert len(report.findings) == len(CLAIMS) > 25
    counts = report.short().set_index("from the paper")["claims"].astype(int)
    assert counts.pop("all") == counts.sum() == len(CLAIMS)  # each is in one part
    text = next(part for part in report.parts("") if getattr(part, "title", "") != "in short")
    for name in ("table1", "figure2 --seeds 5"):
        assert f"`python -m benchmarks run {name}" in text.markdown()


def test_methods_that_were_not_run_leave_the_claims_about_others(published, tmp_path):
    """Figure 5 without SI: what is claimed of MAS alone, or of it and LwF, is judged as before."""
    cells = read_cells(published / "objects" / "cells.jsonl")
    kept = {name: cell for name, cell in cells.items() if cell["cell"]["method"] != "SI"}
    write_cells(tmp_path / "published" / "objects" / "cells.jsonl", kept)
    claims = [claim for claim in CLAIMS if claim.experiment == "figure5"]
    report, _ = check_claims(claims, Results(tmp_path, tmp_path / "published"))
    for found in report.findings:
        about_si = "SI" in found.claim.says.split()
        assert found.verdict.word == (NOT_RUN if about_si else HOLDS), found


def test_the_command_line(tmp_path):
    answer = CliRunner().invoke(
        app, ["claims", "--fast", "--out", str(tmp_path)], env={"COLUMNS": "200"}
    )
    assert answer.exit_code == 0, answer.output
    table = (tmp_path / "claims-fast" / "table.md").read_text(encoding="utf-8")
    assert "| all |" in table
    assert table.count("not run") > 25
