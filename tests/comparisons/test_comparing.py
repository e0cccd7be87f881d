from dataclasses import dataclass, replace

import pytest
from rich.console import Console
from run_counted import cell, result

from benchmarks.cli.compare import Collector, comparisons


def ran(accuracy, memory=1000):
    return replace(result(), final_accuracy=accuracy, forgetting=None, memory_bytes=memory)


def rows(table):
    console = Console(width=200, record=True)
    console.print(table)
    words = [line.split("  ") for line in console.export_text().splitlines()]
    return [[word.strip() for word in line if word.strip()] for line in words if any(line)]


def test_methods_are_compared_seed_by_seed():
    part = {
        cell("MAS", 0): ran(0.80),
        cell("MAS", 1): ran(0.60),
        cell("MAS", 2): ran(0.90),  # the other has no such seed
        cell("EWC", 0): ran(0.50, 2000),
        cell("EWC", 1): ran(0.70, 3000),
    }
    (table,) = comparisons({"test": part}, ["MAS", "EWC"])
    found = rows(table)
    assert found[0] == ["test: MAS beside EWC"]
    assert ["final accuracy (%)", "70.0 ± 14.1", "60.0 ± 14.1", "+10.0 ± 28.3", "1 of 2"] in found
    assert ["seed 0", "80.0", "50.0", "+30.0"] in found
    assert ["seed 1", "60.0", "70.0", "-10.0"] in found
    assert ["memory (KB)", "1.00 ± 0.00", "2.50 ± 0.71", "-1.50 ± 0.71", "2 of 2"] in found
    assert ["training (s)", "0.500 ± 0.000", "0.500 ± 0.000", "+0.000 ± 0.000", "equal"] in found
    assert not any("forgetting" in word for line in found for word in line)  # not measured
    assert not any(line[0] == "seed 2" for line in found)


def test_every_setting_has_its_table():
    """λ is a method's own affair; benchmarks are not mixed, nor what belongs to one part only."""
    cells = [
        replace(cell(method, 0), benchmark=benchmark, lam=lam)
        for method, lam in (("MAS", 1.0), ("EWC", 9.0))
        for benchmark in ("permuted", "split")
    ]
    part = {one: ran(0.5) for one in cells}
    tables = comparisons({"a": part, "b": {cells[0]: ran(0.1)}}, ["MAS", "EWC"])
    assert [table.title for table in tables] == [
        "a, permuted: MAS beside EWC",
        "a, split: MAS beside EWC",
    ]
    twice = {**part, replace(cells[0], lam=2.0): ran(0.6)}
    with pytest.raises(ValueError, match="several runs of MAS that differ in λ only"):
        comparisons({"a": twice}, ["MAS", "EWC"])
    with pytest.raises(ValueError, match="no runs of MAS have the same"):
        comparisons({"a": {cells[0]: ran(0.1), cell("EWC", 5): ran(0.1)}}, ["MAS", "EWC"])


def test_a_number_that_nobody_named_is_shown_without_a_verdict():
    @dataclass(frozen=True)
    class Other:
        overlap: float
        good: bool = True
        names: str = "x"

    part = {cell("MAS", 0): Other(2.0), cell("EWC", 0): Other(3.0)}
    found = rows(comparisons({"test": part}, ["MAS", "EWC"])[0])
    assert ["overlap", "2.00", "3.00", "-1.00", "-"] in found
    assert not any(line[0] in ("good", "names") for line in found)


def test_what_lambda_was_chosen_by_is_not_compared():
    judge, tested = replace(cell("MAS", 0), validation=0.2), cell("MAS", 1)
    collector = Collector(lambda title, cells: {one: ran(0.5) for one in cells})
    assert collector("choosing λ", [judge]) == {judge: ran(0.5)}
    collector("test", [tested])
    assert collector.parts == {"test": {tested: ran(0.5)}}
    assert collector.labels() == ["MAS"]
