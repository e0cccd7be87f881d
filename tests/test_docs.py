"""What the pages say is so: their examples run, their links lead somewhere, no page is missing."""

import importlib
import inspect
import itertools
import pkgutil
import re
import warnings
from pathlib import Path

import pytest

import avalanche_mas

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d*")
VAR_POSITIONAL, VAR_KEYWORD = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
RUN = (
    "tutorial",
    "choosing-lambda",
    "own-data",
    "pretrained",
    "adding-a-method",
    "supported-layers",
    "resume",
    "deployment",
    "text",
)
NEEDS = {"text": "peft"}  # and what that needs


@pytest.mark.parametrize("name", RUN)
def test_the_examples_of_a_page_run(name, capsys, monkeypatch, tmp_path):
    """All blocks of a page are one script. A ``text`` block is what the block before it prints.

    Numbers may differ a little: another processor or version of PyTorch rounds differently.
    """
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason="pip install -e '.[zoo]'")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    assert blocks
    names = {"__name__": "page"}
    for (language, code), (after, shown) in itertools.pairwise([*blocks, ("", "")]):
        if language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(code, f"{name}.md", "exec"), names)
            printed = capsys.readouterr().out
            assert words(printed) == words(shown if after == "text" else "")
            numbers = [[float(n) for n in NUMBER.findall(text)] for text in (printed, shown)]
            if after == "text":
                assert numbers[0] == pytest.approx(numbers[1], abs=0.15)


def words(text):
    return NUMBER.sub("#", text).replace("[", " ").replace("]", " ").split()


def links(page):
    """The targets of a page's relative links, except in code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    for target in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)", text):
        yield target, page.parent / target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_linked_files_exist(page):
    assert not [target for target, file in links(page) if not file.exists()]


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"([\w/-]+\.md)$", navigation, re.MULTILINE)
    pages = {page.relative_to(DOCS).as_posix() for page in PAGES}
    notebooks = {f"notebooks/{file.stem}.md" for file in (ROOT / "notebooks").glob("*.ipynb")}
    assert pages | notebooks <= set(listed)
    added = {"index.md", "contributing.md", *notebooks}  # the README, and CONTRIBUTING.md
    gone = [page for page in set(listed) - pages - added if not (ROOT / page).exists()]
    assert not gone


def public_callables():
    """Name and object of every public function, class and method that users can meet."""
    found = {}
    packages = pkgutil.walk_packages(avalanche_mas.__path__, "avalanche_mas.")
    for module in ["avalanche_mas", *(info.name for info in packages)]:
        if module.endswith("__main__"):
            continue
        loaded = importlib.import_module(module)
        for name in getattr(loaded, "__all__", ()):
            value = getattr(loaded, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    # Made by rules and called by engines, not by users.
    found.pop("avalanche_mas.importance.rules.per_sample.PerSample")
    for name, value in list(found.items()):
        if inspect.isclass(value):
            found |= {
                f"{name}.{member}": getattr(value, member)
                for member, definition in vars(value).items()
                if not member.startswith(("_", "before_", "after_"))  # the latter are Avalanche's
                and (inspect.isfunction(definition) or isinstance(definition, classmethod))
                and not any(hasattr(base, member) for base in value.__bases__)  # it says so there
            }
    return found


def lacking(value):
    """What the docstring of a function or class does not say."""
    text = inspect.getdoc(value) or ""
    made = vars(value).get("__init__") if inspect.isclass(value) else value
    if made is None or (inspect.isclass(value) and issubclass(value, (tuple, Exception))):
        return []
    signature = inspect.signature(made)
    named = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.name != "self" and not parameter.name.startswith("_")
        if parameter.kind not in (VAR_POSITIONAL, VAR_KEYWORD)
    ]
    missing = [f"param {name}" for name in named if f":param {name}:" not in text]
    returned = None if inspect.isclass(value) else signature.return_annotation
    if returned not in (None, "None", inspect.Signature.empty) and ":return:" not in text:
        missing.append("return")
    try:
        source = inspect.getsource(made)
    except (OSError, TypeError):  # of a dataclass
        source = ""
    raised = set(re.findall(r"^\s+raise ([A-Z]\w+)\(", source, re.MULTILINE))
    return missing + [f"raises {error}" for error in raised if f":raises {error}:" not in text]


def test_docstrings_say_what_goes_in_and_comes_out():
    """Every parameter, what is returned, and what is raised, unless another place is named."""
    elsewhere = re.compile(r"[Pp]arameters.* are those\s+of|[Aa]rguments\s.*are")
    unsaid = {
        name: missing
        for name, value in public_callables().items()
        if not elsewhere.search(inspect.getdoc(value)) and (missing := lacking(value))
    }
    assert not unsaid, "\n".join(f"{name}: {', '.join(what)}" for name, what in unsaid.items())
