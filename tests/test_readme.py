"""The README is right: its example prints what it shows, and its table is the committed one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def accuracies(text):
    """Name → numbers, of lines such as ``MAS  [0.84 0.77 0.94]``."""
    lines = re.findall(r"^(\w+) +\[(.*)\]$", text, re.MULTILINE)
    return {name: [float(number) for number in numbers.split()] for name, numbers in lines}


def test_the_example_prints_what_is_shown(tmp_path):
    """Numbers may differ a little: another processor or version of PyTorch rounds differently."""
    code, shown = re.search(r"```python\n(.*?)```.*?```text\n(.*?)```", README, re.DOTALL).groups()
    script = tmp_path / "example.py"
    script.write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    printed = accuracies(run.stdout)
    assert len(printed) == len(run.stdout.splitlines()) == 2
    expected = accuracies(shown)
    assert printed.keys() == expected.keys()
    for name, numbers in printed.items():
        assert numbers == pytest.approx(expected[name], abs=0.15)
    assert printed["MAS"][0] > printed["finetuning"][0] + 0.3


@pytest.mark.parametrize(
    ("page", "experiment"), [("README.md", "digits"), ("docs/speed.md", "speed")]
)
def test_the_results_are_the_committed_ones(page, experiment):
    """Each row of the page's table of results is one of the table of the same columns."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = re.search(r"^\| (method|way) \|.*(\n\|.*)+", text, re.MULTILINE)[0].splitlines()
    assert len(table) > 5
    results = (ROOT / f"benchmarks/results/{experiment}/table.md").read_text(encoding="utf-8")
    assert any(set(table) <= set(made.splitlines()) for made in re.split(r"\n\n+", results))


@pytest.mark.parametrize("page", ["README.md", "docs/experiments.md"])
def test_the_eight_tasks_are_the_committed_ones(page):
    """Final accuracy and forgetting are the means that begin the rows of both tables."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = " ".join(text.split())
    shown = re.findall(r"(\w+) ends at ([\d.]+) % and has forgotten ([\d.]+\d)", text)
    assert [name for name, *_ in shown] == ["MAS", "EWC", "SI", "LwF", "LocalMAS", "finetuning"]
    joint = re.search(r"joint training reaches ([\d.]+) %", text)[1]
    table = ROOT / "benchmarks/results/figure5/table.md"
    rows = re.findall(
        r"^\| (\w+) \| \S+ \| (\S+) ± ", table.read_text(encoding="utf-8"), re.MULTILINE
    )
    means = {}
    for name, mean in rows:
        means.setdefault(name, []).append(mean)
    assert means == {name: numbers for name, *numbers in shown} | {"joint": [joint]}


def test_a_memory_with_and_without_mas_is_the_committed_one():
    """Remedy: ``python -m benchmarks run class-incremental``, then publish it."""
    table = (ROOT / "benchmarks/results/class-incremental/table.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (replay[\w ]*|MAS|finetuning) \| (\d+) \| (\S+) ", table, re.MULTILINE)
    mean = {(method, int(memory)): number for method, memory, number in rows}
    one, both = "replay", "replay and MAS"
    shown = re.search(
        r"20 images of digits give (\S+) %\s+without it and (\S+) % with it, 200 images (\S+) and "
        r"(\S+) %",
        README,
    )
    assert list(shown.groups()) == [mean[m, n] for n in (20, 200) for m in (one, both)]
    page = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    pairs = re.findall(r"([\d.]+) instead of\s+([\d.]+) % with (\d+)", page)
    assert pairs == [(mean[both, n], mean[one, n], str(n)) for n in (20, 50, 100)]
    assert f"({mean[both, 200]} and {mean[one, 200]} %)" in page
    alone = mean["MAS", 0], mean["finetuning", 0]
    assert "MAS ends at {} %,\n  finetuning at {} %".format(*alone) in page


def test_a_memory_of_objects_is_the_committed_one():
    """Remedy: ``python -m benchmarks run class-incremental-objects``, then publish it."""
    folder = ROOT / "benchmarks/results/class-incremental-objects"
    table = (folder / "table.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (replay[\w ]*) \| (\d+) \| (\S+) ", table, re.MULTILINE)
    mean = {(method, int(memory)): number for method, memory, number in rows}
    page = " ".join((ROOT / "docs/experiments.md").read_text(encoding="utf-8").split())
    for memory in 40, 160:
        alone, mas, ewc = (mean[m, memory] for m in ("replay", "replay and MAS", "replay and EWC"))
        assert f"the memory alone ends at {alone} % and with MAS at {mas} %" in page
        assert f", {ewc} %." in page


def test_the_claims_are_the_committed_ones():
    """Remedy: ``python -m benchmarks claims --publish``."""
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- claims -->\n(.*?)\n<!-- /claims -->", text, re.DOTALL)[1]
    assert shown.startswith("| from the paper |")
    assert shown in (ROOT / "benchmarks/results/claims/table.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(README.splitlines()) <= 130
    assert len(README.split()) <= 1100


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), f"README.md links to {target}, which does not exist"
