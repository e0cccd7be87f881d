"""Every script in examples/ runs, and compares what it says."""

import runpy
from pathlib import Path

import pytest

from avalanche_mas.plugins import registry

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = {
    "image_folder": ["finetuning", "joint", "MAS", "EWC", "LwF"],
    "regression": ["finetuning", "joint", "MAS", "SI"],
    "text": ["finetuning", "joint", "MAS", "EWC"],
    "two_inputs": ["finetuning-2", "MAS-2", "EWC-2"],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_and_compares(name, tmp_path, monkeypatch, capsys):
    """Quickly: one seed, one epoch, published λ."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAST_EXAMPLES", "1")
    monkeypatch.syspath_prepend(FOLDER)
    names = set(registry.METHODS)
    try:
        found = runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")["comparison"]
    finally:
        for own in set(registry.METHODS) - names:
            del registry.METHODS[own]
    assert list(found.table()["method"]) == SCRIPTS[name]
    assert found.error == (name == "regression")
    lines = capsys.readouterr().out.splitlines()
    assert all(any(method in line for line in lines) for method in SCRIPTS[name])
    if name == "image_folder":
        assert (tmp_path / "images.png").stat().st_size > 5000


def test_all_are_here_and_short():
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
    assert scripts.keys() == {*SCRIPTS, "digit_images"}
    assert all(len(text.splitlines()) <= 60 for text in scripts.values())
    assert len(scripts["image_folder"].splitlines()) <= 25


def test_the_documentation_shows_the_script():
    page = (FOLDER.parent / "docs" / "own-data.md").read_text(encoding="utf-8")
    shown = (FOLDER / "image_folder.py").read_text(encoding="utf-8") in page  # no diff is wanted
    assert shown, "copy examples/image_folder.py into docs/own-data.md"
