"""The package as a whole: the cost of importing it, its names, documentation, who imports whom."""

import ast
import graphlib
import importlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import avalanche_mas

PACKAGE = Path(avalanche_mas.__file__).parent
FILES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}

# Plots, tables and data are for those who ask for them, not for everyone who imports the package.
HEAVY = ("matplotlib", "pandas", "rich", "scipy", "sklearn", "torchvision", "typer")
HEAVY_PARTS = ("avalanche_mas.benchmarks", "avalanche_mas.evaluation", "avalanche_mas.models")

# Who may import whom: Avalanche, and the other parts of the package. Data run one way.
MAY_IMPORT = {
    "": {"fisher", "importance", "penalty", "plugins"},
    "compat": {"avalanche"},
    # The mathematics.
    "distributed": set(),
    "importance": {"distributed"},
    "step_size": set(),
    "blocks": {"importance"},
    "penalty": {"blocks", "importance", "step_size"},
    "collapse": {"importance", "penalty"},
    "fisher": {"distributed", "importance"},
    "path_integral": {"importance"},
    "merging": {"importance"},
    # Avalanche.
    "plugins": {"avalanche", "collapse", "compat", "distributed", "fisher", "importance"}
    | {"merging", "path_integral", "penalty", "step_size"},
    "checkpoint": {"avalanche", "compat"},
    "strategies": {"avalanche", "distributed", "importance"},
    "methods": {"avalanche", "plugins", "strategies"},
    "trial_runs": {"avalanche", "compat"},
    "hyperparameters": {"avalanche", "trial_runs"},
    "benchmarks": {"avalanche"},
    "data": {"benchmarks"},
    "models": {"avalanche"},
    "evaluation": {"avalanche", "importance", "penalty", "plugins", "step_size"},
}


def imports_of(module):
    """Every module that ``module``'s file imports, at its top or later, but for type hints only."""
    found = set()
    nodes = [ast.parse(FILES[module].read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: write the import in full"
            # `from package import name` may name a module of the package.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & FILES.keys()
            if names - FILES.keys():
                found.add(node.module)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            nodes.extend(ast.iter_child_nodes(node))
    return found


def part_of(module):
    """The part of ``avalanche_mas`` that a module belongs to, or else its top-level package."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "avalanche_mas" else package


def test_import_is_cheap():
    """Beyond what Avalanche loads anyway: no plotting, no tables, no data, and under 0.5 s."""
    code = """
import json, sys, time, avalanche
before, start = set(sys.modules), time.process_time()
import avalanche_mas
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    added = json.loads(run.stdout.splitlines()[-1])
    assert "avalanche_mas.plugins" in added["modules"]
    heavy = [
        name
        for name in added["modules"]
        if name.partition(".")[0] in HEAVY or name.startswith(HEAVY_PARTS)
    ]
    assert not heavy
    # Processor time: other processes on the machine do not count.
    assert added["seconds"] < 0.5


def test_all_names_what_is_public():
    """``__all__`` is what the package shows: no name missing, none that is not there."""
    public = {
        name
        for name, value in vars(avalanche_mas).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert set(avalanche_mas.__all__) - {"__version__"} == public
    assert len(avalanche_mas.__all__) == len(set(avalanche_mas.__all__))


def test_version_is_the_same_everywhere():
    """In Python, in the installed metadata and in the citation."""
    citation = (PACKAGE.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {avalanche_mas.__version__}\n" in citation
    try:
        installed = importlib.metadata.version("avalanche-mas")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("avalanche_mas runs from its folder and is not installed")
    assert installed == avalanche_mas.__version__


@pytest.mark.parametrize("module", FILES)
def test_everything_public_is_documented(module):
    """Modules, and the public functions, classes, methods and properties that they define."""
    loaded = importlib.import_module(module)
    assert set(getattr(loaded, "__all__", ())) <= vars(loaded).keys()
    undocumented = [] if loaded.__doc__ else [module]
    for name, value in vars(loaded).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            undocumented += [name] if not value.__doc__ else []
        if inspect.isclass(value):
            undocumented += [
                f"{name}.{member}"
                for member, definition in vars(value).items()
                if not member.startswith("_")
                and (inspect.isroutine(definition) or isinstance(definition, property))
                and not inspect.getdoc(getattr(value, member))
            ]
    assert not undocumented


@pytest.mark.parametrize("module", FILES)
def test_who_imports_whom(module):
    """The mathematics knows nothing of Avalanche, and nothing knows the comparison scripts."""
    part = part_of(module)
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what {part} may import"
    imported = imports_of(module)
    assert not {name for name in imported if name.partition(".")[0] in ("benchmarks", "tests")}
    ours = ("avalanche", "avalanche_mas")
    parts = {part_of(name) for name in imported if name.partition(".")[0] in ours}
    assert parts - {part} <= MAY_IMPORT[part]


def test_no_circles():
    """No file imports itself through others."""
    graph = {module: imports_of(module) & FILES.keys() for module in FILES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
