"""The documentation site, built strictly: nothing is missing, and nothing is left unrendered."""

import html
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TypeVar

import pytest

import avalanche_mas

pytest.importorskip("mkdocs", reason="pip install -e '.[docs]'")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site. A warning is an error: dead links, unknown parameters, ..."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


def documented(site):
    """The names that the site has a place for, with all names that they can be imported by."""
    inventory = (site / "objects.inv").read_bytes()
    entries = inventory.split(b"\n", 4)[4]  # four lines say what it is
    return {line.split()[0] for line in zlib.decompress(entries).decode().splitlines()}


def public_names():
    """Module and name of all in an ``__all__``; without one, of what a top-level module defines."""
    found = pkgutil.walk_packages(avalanche_mas.__path__, "avalanche_mas.")
    for module in [avalanche_mas.__name__, *(info.name for info in found)]:
        if module.endswith("__main__"):
            continue
        loaded = importlib.import_module(module)
        names = getattr(loaded, "__all__", None)
        if names is None and module.count(".") == 1:
            names = [
                name
                for name, value in vars(loaded).items()
                if not (name.startswith("_") or isinstance(value, TypeVar))
                and (getattr(value, "__module__", None) == module or is_constant(loaded, name))
            ]
        for name in names or ():
            if not name.startswith("_") and not inspect.ismodule(getattr(loaded, name)):
                yield loaded, name


def is_constant(module, name):
    return name.isupper() and re.search(rf"^{name}\b", inspect.getsource(module), re.MULTILINE)


def test_every_public_name_is_in_the_reference(site):
    known = documented(site)
    missing = []
    for module, name in public_names():
        value = getattr(module, name)
        home = f"{getattr(value, '__module__', module.__name__)}.{name}"
        home = home.replace("avalanche_mas.comparisons.", "benchmarks.")  # as installed
        if not known & {f"{module.__name__}.{name}", home}:
            missing.append(f"{module.__name__}.{name}")
    assert not missing, "add their modules to docs/api"


def prose(page):
    """What a reader reads, without code."""
    body = re.search(r"<article.*?</article>", page, re.DOTALL)[0]
    for tag in ("details", "pre", "code", "math", "script", "style"):
        body = re.sub(rf"<{tag}\b.*?</{tag}>", "", body, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", body))


UNRENDERED = {
    "a field of Sphinx": r":(param|return|raises)\b[^:\n]*:",
    "a role of Sphinx": r":(attr|class|data|exc|func|meth|mod|obj):",
    "an equation": r"\$\$|\\\(|\\\[|\\frac|\\sum|\.\. math::",
    "an autoref": r"<autoref|\]\[",
    "a literal": r"``",
    "a link": r"\]\(",
    "a directive": r"^::: |::$",
    "a doctest": r">>>|# doctest:",
    "emphasis": r"\*\*",
    "a table": r"^\|.*\|$|\|\s*:?--",
}


def test_nothing_is_left_unrendered(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    left = [
        f"{page.relative_to(site)}: {what}: {found[0]!r}"
        for page in pages
        if page.name != "404.html"
        for what, pattern in UNRENDERED.items()
        if (found := re.search(pattern, prose(page.read_text(encoding="utf-8")), re.MULTILINE))
    ]
    assert not left


def test_equations_are_mathml(site):
    page = (site / "api" / "importance" / "index.html").read_text(encoding="utf-8")
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') >= 3
    assert "arithmatex" not in page


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"([^\"]+)\"", text)
        loaded += re.findall(r"<link[^>]* rel=\"(?:stylesheet|preconnect)\"[^>]*>", text)
        assert not [address for address in loaded if "//" in address], page
