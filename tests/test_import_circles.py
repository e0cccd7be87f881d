"""No module needs itself: imports run one way, also those for the sake of a type hint."""

import ast
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules(package):
    """Module name → its file, and its own package's name, by which relative imports go."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__init__":
            found[".".join(parts[:-1])] = path, ".".join(parts[:-1])
        else:
            found[".".join(parts)] = path, ".".join(parts[:-1])
    return found


def imports_at_the_top(body):
    """The imports of a module, also under ``if`` and ``try``, but not those inside functions."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_at_the_top(ast.iter_child_nodes(node))


def needed_by(path, package, known):
    """The modules of ours that a file imports by name; ``from a import b`` is of ``a.b`` if any."""
    needed = set()
    for node in imports_at_the_top(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            needed |= {alias.name for alias in node.names}
            continue
        source = resolve_name("." * node.level + (node.module or ""), package)
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            needed.add(inner if inner in known else source)
    return needed & known.keys()


def circle_in(known):
    """The modules of a circle, the first one at its end again; none if there is no circle."""
    graph = {name: needed_by(*where, known) for name, where in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]  # each imports the next one
    return []


@pytest.mark.parametrize("package", ["avalanche_mas", "benchmarks"])
def test_imports_run_one_way(package):
    circle = circle_in(modules(package))
    assert not circle, f"an import circle: {' → '.join(circle)}"


def test_a_circle_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    folder = tmp_path / "package" / "inner"
    folder.mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text("from .inner import one\n")
    (folder / "__init__.py").touch()
    (folder / "one.py").write_text("def later():\n    from .. import inner\n")
    (folder / "two.py").write_text("if TYPE_CHECKING:\n    from .one import later\n")
    assert not circle_in(modules("package"))
    (folder / "one.py").write_text("from .two import x\n")
    circle = circle_in(modules("package"))
    assert circle[0] == circle[-1]
    assert set(circle) == {"package.inner.one", "package.inner.two"}
    (folder / "one.py").write_text("from .. import later\n")
    assert set(circle_in(modules("package"))) == {"package", "package.inner.one"}
