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

import commands
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
    "": {"importance", "penalty", "plugins"},
    # Plain PyTorch.
    "importance": set(),
    "penalty": {"importance"},
    # Avalanche.
    "plugins": {"avalanche", "importance", "penalty", "training"},
    "training": {"avalanche", "importance"},
    "benchmarks": {"avalanche", "miniature"},
    "miniature": {"benchmarks"},
    "models": {"avalanche"},
    "evaluation": {"avalanche", "importance", "penalty", "plugins"},
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
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes.extend(node.orelse)
        else:
            nodes.extend(ast.iter_child_nodes(node))
    return found


def part_of(module):
    """The part of ``avalanche_mas`` that a module belongs to, or else its top-level package."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "avalanche_mas" else package


def python(code):
    """What a fresh interpreter prints last, from JSON."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    run = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def forked(code, **environment):
    """The same where Avalanche is loaded already."""
    run = commands.run("-c", code, environment=environment, cwd=PACKAGE.parent, quiet=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_import_is_cheap():
    """Beyond what Avalanche loads anyway: no plotting, no tables, no data, and under 0.5 s."""
    added = python("""
import json, sys, time, avalanche
before, start = set(sys.modules), time.process_time()
from avalanche_mas import MASPlugin
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))
""")
    assert "avalanche_mas.plugins" in added["modules"]
    heavy = [
        name
        for name in added["modules"]
        if name.partition(".")[0] in HEAVY or name.startswith(HEAVY_PARTS)
    ]
    assert not heavy
    # Processor time: other processes on the machine do not count.
    assert added["seconds"] < 0.5


def test_nothing_is_said_on_import():
    """Not even by qpsolvers, which Avalanche loads; other warnings are as they were."""
    code = "import avalanche_mas, warnings; avalanche_mas.MASPlugin; warnings.warn('own')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == ""
    assert run.stderr.strip() == "<string>:1: UserWarning: own"


@pytest.mark.parametrize(
    "statement",
    [
        "from avalanche_mas import QuadraticPenalty, estimate_importance",
        "import avalanche_mas.training",
        "import avalanche_mas; dir(avalanche_mas)",
    ],
)
def test_plain_pytorch_users_never_load_avalanche(statement):
    loaded = python(f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))")
    assert "avalanche_mas" in loaded
    assert not [name for name in loaded if name.partition(".")[0] == "avalanche"]


@pytest.mark.parametrize("package", ["avalanche_mas", "avalanche_mas.training"])
def test_lazy_names_are_as_others(package):
    """Tab completion, ``import *`` and the error for a name that is not there."""
    found = forked(f"""
import json, {package} as package
before = dir(package)
from {package} import *
missing = [name for name in package.__all__ if name not in globals() or name not in before]
try:
    package.MASPlugins
except AttributeError as error:
    print(json.dumps([missing, str(error)]))
""")
    assert found == [[], f"module '{package}' has no attribute 'MASPlugins'"]


@pytest.mark.parametrize("repair", ["0", "1"])
def test_avalanche_is_repaired_unless_the_environment_says_not_to(repair):
    """See docs/differences-from-avalanche.md."""
    repaired = forked(
        """
import json, torch
import avalanche_mas.plugins
from avalanche.logging import WandBLogger
from avalanche.models import MultiTaskModule
changed = WandBLogger.import_wandb, MultiTaskModule.forward
print(json.dumps([hasattr(f, "__wrapped__") for f in changed] + [hasattr(torch.optim, "sgd")]))
""",
        AVALANCHE_MAS_REPAIR=repair,
    )
    assert repaired == 3 * [repair == "1"]


def test_all_names_what_is_public():
    """``__all__`` is what the package shows: no name missing, none that is not there."""
    public = {
        name
        for name in dir(avalanche_mas)
        if not name.startswith("_") and not inspect.ismodule(getattr(avalanche_mas, name))
    }
    assert set(avalanche_mas.__all__) == public - {"TYPE_CHECKING"}
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
    assert all(hasattr(loaded, name) for name in getattr(loaded, "__all__", ()))
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
