"""The README says what is so: its example runs and learns, and its table is the committed one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = {"digits": "run digits", "speed": "speed"}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_remembers(tmp_path):
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    accuracies = re.findall(r"Top1_Acc_Exp/eval\S*/Exp\d+ = ([\d.]+)", run.stdout)
    assert len(accuracies) == 9
    assert all(float(accuracy) > 0.7 for accuracy in accuracies[-3:])


@pytest.mark.parametrize("experiment", ["digits", "speed"])
def test_the_results_are_the_committed_ones(experiment):
    """Each row of the section's table is one of the table of the same columns that was made."""
    section = README.split(f"`python -m benchmarks {COMMANDS[experiment]}`")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    folder = ROOT / "benchmarks" / "results" / experiment
    tables = re.split(r"\n\n+", (folder / "table.md").read_text(encoding="utf-8"))
    assert len(rows) > 5
    assert any(set(rows) <= set(table.splitlines()) for table in tables)


def test_linked_files_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), f"README.md links to {target}, which does not exist"
