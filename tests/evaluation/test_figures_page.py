"""The page of figures: its pictures, and what draws them."""

import re
import runpy
from pathlib import Path

from matplotlib import pyplot
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"


def test_the_script_draws_every_picture_of_the_page(tmp_path):
    draw = runpy.run_path(str(DOCS / "figures.py"))["draw"]
    drawn = draw(tmp_path, {"MAS": [1e-3, 1e-1]}, epochs=1, experiences=2)
    pyplot.close("all")
    page = (DOCS / "figures.md").read_text(encoding="utf-8")
    shown = re.findall(r"\]\(images/plots/(.*?\.png)\)", page)
    assert sorted(shown) == sorted(path.name for path in drawn)
    for path in drawn:
        with (
            Image.open(path) as new,
            Image.open(DOCS / "images" / "plots" / path.name) as committed,
        ):
            assert new.width == committed.width
            assert new.convert("L").getextrema()[0] < 128  # something is on it
