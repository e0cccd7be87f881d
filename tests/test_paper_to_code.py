"""The map from the paper to the code: every file that it names exists and cites what it is for."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\|.*\|$", (ROOT / "docs/paper-to-code.md").read_text("utf-8"), re.MULTILINE)
CITATION = re.compile(r"\b(Eq|Table|Figure|Fig)\b\.? ?(\d+)(?:-(\d+))?")


def cited(text):
    """Equations, tables and figures that a text cites: "Eq. 5-7" → ("eq", 5), ..., ("eq", 7)."""
    return {
        (kind.lower()[:3], number)
        for kind, first, last in CITATION.findall(text)
        for number in range(int(first), int(last or first) + 1)
    }


def files(row):
    """Files and folders of the repository that a row names."""
    return re.findall(r"`((?:avalanche_mas|benchmarks)/[\w/.]+)`", row)


def source(row):
    """What a row is about, as it stands in the row's first cell."""
    return row.split("|")[1].strip()


MAPPED = {f"{source(row)}: {file}": (row, file) for row in ROWS for file in files(row)}


@pytest.mark.parametrize(("row", "file"), MAPPED.values(), ids=MAPPED)
def test_the_file_cites_what_it_is_named_for(row, file):
    path = ROOT / file
    assert path.exists()
    missing = cited(source(row)) - (cited(path.read_text("utf-8")) if path.is_file() else set())
    assert not missing


def test_every_equation_table_and_figure_of_the_paper_is_on_the_map():
    """Of the figures, those for which there is an experiment."""
    mapped = set().union(*(cited(source(row)) for row, _ in MAPPED.values()))
    equations = {("eq", number) for number in range(1, 8)}
    tables = {("tab", number) for number in range(1, 5)}
    assert mapped == equations | tables | {("fig", number) for number in (1, 2, 5, 6, 7)}
