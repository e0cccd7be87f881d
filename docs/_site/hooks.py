"""What the site needs beyond Markdown: the repository's other pages, tables, equations as MathML.

Pages link to files of the repository as on GitHub. The README, the notebooks, the tables and the
figures of results become pages of the site. Links to anything else, such as source code, become
plain text.
"""

from __future__ import annotations

import html
import posixpath
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the comparisons are no part of what is installed in a clone
LINK = re.compile(
    r"^```.*?^```"  # code is left alone
    r"|(?P<picture>!?)\[(?P<text>(?:\\.|[^\]\\])*)\]\((?P<target>[^)\s]+)\)"
    r"|`[^`\n]+`",
    re.DOTALL | re.MULTILINE,
)
# As notebooks write an equation in a sentence.
INLINE = re.compile(r"(?<!\$)\$(?!\$)([^$\n]+)\$(?!\$)")
# The README's equations are plain text, as not all that show it know another way.
IN_README = {
    "Ω = (1/N) Σₖ |∂‖F(xₖ; θ)‖² / ∂θ|": (
        r"\Omega = \frac{1}{N} \sum_k "
        r"\left| \frac{\partial \|F(x_k; \theta)\|^2}{\partial \theta} \right|"
    ),
    "loss = L_task + (λ/2) Σ Ω (θ − θ\\*)²": (
        r"L = L_{\text{task}} + \frac{\lambda}{2} \sum \Omega (\theta - \theta^*)^2"
    ),
    "Ωᵢⱼ = (1/N) Σₖ yᵢ yⱼ": r"\Omega_{ij} = \frac{1}{N} \sum_k y_i y_j",
}
VARIANTS = {  # folders of results that are not called as their experiment
    "figure5-published": ("figure5", " --select published"),
    "figure5-small": ("figure5", " --model small"),
}
# Not made again since the experiments start from a pretrained network.
EARLIER = {"figure5-small", "figure6", "l2-vs-vector", "table3"}
EQUATION = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', re.DOTALL)


def added() -> dict[str, str]:
    """Path in the repository → path on the site, of pages that lie outside of docs/."""
    results = sorted((ROOT / "benchmarks" / "results").glob("*/*"))
    shown = [file for file in results if file.suffix in (".md", ".png")]
    shown += sorted((ROOT / "notebooks").glob("*.ipynb"))
    paths = [file.relative_to(ROOT).as_posix() for file in shown]
    pages = {path: re.sub(r"\.ipynb$", ".md", path) for path in paths}
    return {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"} | pages


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    for path, place in added().items():
        if path.endswith(".ipynb"):
            for part, content in _notebook(ROOT / path):
                files.append(File.generated(config, f"notebooks/{part}", content=content))
        else:
            files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def _notebook(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """A notebook's page and its pictures, as it was saved: nothing is run."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = INLINE.sub(r"\\(\1\\)", cell.source)
    names = {"unique_key": path.stem, "output_files_dir": path.stem}
    markdown, resources = MarkdownExporter().from_notebook_node(notebook, names)
    # A table of pandas brings a style of its own, which would win over the site's.
    plain = re.sub(r"<style scoped>.*?</style>", "", markdown, flags=re.DOTALL)
    yield f"{path.stem}.md", plain.replace('<table border="1" class="dataframe">', "<table>")
    yield from resources["outputs"].items()


def on_page_markdown(markdown: str, *, page: Any, **kwargs: Any) -> str:
    """Write what is made for a page, and turn links to the repository's files into the site's."""
    place = page.file.src_uri
    if place == "index.md":
        for text, equation in IN_README.items():
            if text not in markdown:
                raise ValueError(f"README.md no longer has {text!r}, which {__file__} replaces")
            markdown = markdown.replace(text, rf"\({equation}\)")
    if place.startswith("benchmarks/results/"):
        markdown = _above_results(Path(place).parent.name) + markdown
    markdown = re.sub("<!-- methods -->", lambda _: _methods(), markdown)
    here = {there: path for path, there in added().items()}.get(place, f"docs/{place}")
    return LINK.sub(lambda link: _link(link, here, place), markdown)


def _link(link: re.Match[str], here: str, place: str) -> str:
    picture, text, target = link["picture"], link["text"], link["target"]
    if target is None or re.match(r"[a-z]+:|#|/", target):
        return link[0]
    file, mark, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), file))
    there = path.removeprefix("docs/") if path.startswith("docs/") else added().get(path)
    if there is None:
        # What neither the site nor the repository has stays, for a strict build to refuse.
        return text if (ROOT / path).exists() and not picture else link[0]
    relative = posixpath.relpath(there, posixpath.dirname(place) or ".")
    return f"{picture}[{text}]({relative}{mark}{anchor})"


def _above_results(folder: str) -> str:
    """What was run, with which command, and its pictures."""
    from benchmarks.experiments import NAMES, load

    name, options = VARIANTS.get(folder, (folder, ""))
    if name in NAMES:
        what, command = load(name).DESCRIPTION, f"run {name}{options}"
    else:
        what, command = import_module(f"benchmarks.{name}").__doc__.split("\n")[0], name
    pictures = sorted((ROOT / "benchmarks" / "results" / folder).glob("*.png"))
    shown = "".join(f"![{picture.stem}]({picture.name})\n\n" for picture in pictures)
    older = " An earlier protocol, with a small network from scratch." if folder in EARLIER else ""
    return f"{what.rstrip('.')}: `python -m benchmarks {command}`.{older}\n\n{shown}"


def _methods() -> str:
    """``METHODS`` as a table."""
    from avalanche_mas.plugins.registry import METHODS

    rows = ["| method | what it does | λ is its |", "| :-- | :-- | :-- |"]
    for name, method in METHODS.items():
        strength = ", ".join(f"`{argument}`" for argument in method.strength)
        rows.append(f"| `{name}` | {method.description} | {strength or '-'} |")
    return "\n".join(rows)


def on_page_content(content: str, **kwargs: Any) -> str:
    """Write equations as MathML, which browsers show without any script."""
    return EQUATION.sub(_mathml, content)


def _mathml(equation: re.Match[str]) -> str:
    display = "block" if equation[1] == "div" else "inline"
    return convert(html.unescape(equation[2]).strip(), display=display)
