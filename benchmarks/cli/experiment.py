"""Finds the experiment that a command names, with its settings and its finished cells."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console

from ..experiments import NAMES, load
from ..runs.store import CellStore

console = Console()

RESULTS = Path(__file__).parents[1] / "results"
"""What is published: a folder for each experiment."""

CELLS = "cells.jsonl"
"""The file of its single runs."""


class Selection(str, Enum):
    """How λ is chosen."""

    TABLE = "table"
    GRID = "grid"
    FRAMEWORK = "framework"
    PUBLISHED = "published"


@dataclass(frozen=True)
class ChosenExperiment:
    """An experiment as a command asks for it.

    :param program: what the user calls this program.
    :param name: the experiment's.
    :param module: the experiment's.
    :param settings: every hyper-parameter.
    :param store: where its cells are kept; experiments may share them.
    :param folder: where its tables and plots go.
    """

    program: str
    name: str
    module: ModuleType
    settings: Any
    store: CellStore[Any]
    folder: Path

    def finished(self, title: str, cells: Iterable[Any]) -> dict[Any, Any]:
        """Look cells up, where otherwise they are run; also among those that were published.

        :raises typer.Exit: if one is not finished; what to do is printed.
        """
        found = {cell: self.store.find(cell) for cell in cells}
        missing = sum(result is None for result in found.values())
        if missing:
            console.print(
                f"{missing} of {len(found)} runs of the part '{title}' are neither in "
                f"{self.store.folder} nor published. Make them with: {self.program} run "
                f"{self.name}, and the same options.",
                markup=False,
            )
            raise typer.Exit(1)
        return found


def choose(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="An experiment, as `list` shows them.")],
    out: Annotated[Path, typer.Option(help="Results are kept in a folder in here.")] = Path(
        "results"
    ),
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="How many seeds are reported.",
            show_default="as the experiment says",
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="A tiny version: are all parts working? Own folder.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the official data, with the paper's settings. Own folder.",
            show_default="a drawn miniature",
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="A file of word vectors, for the facts in --data.",
            show_default="the embeddings that come with the data",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The network, or a file of its weights.", show_default="as fits the data"
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over each task.", show_default="as fits the data"),
    ] = None,
    select: Annotated[
        Selection | None,
        typer.Option(
            help="How λ is chosen: it was, for the published table; by a grid, on whole streams "
            "with other seeds; by the framework, for each experience on its own data (De Lange et "
            "al., 2021); or as the methods' authors published. Own folders.",
            show_default="as the experiment says",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Which methods, as `list` shows them, with commas between; or `all`.",
            show_default="as the experiment says",
        ),
    ] = None,
) -> ChosenExperiment:
    """Find an experiment; a trial, official data and ways to choose λ have folders of their own.

    The options from ``data`` on are for those settings whose ``configure`` takes them.

    :raises typer.BadParameter: if there is no such experiment, or it has no such option.
    """
    if name not in NAMES:
        console.print(context.get_help())
        raise unknown("experiment", name, NAMES)
    module = load(name)
    settings = module.FAST if fast else module.SETTINGS
    if seeds is not None:
        settings = replace(settings, seeds=tuple(range(seeds)))
    if only is not None:
        if not hasattr(settings, "methods"):
            raise typer.BadParameter(f"the experiment '{name}' has no option --methods.")
        settings = replace(settings, methods=named_methods(only))
    options = {"data": data, "vectors": vectors, "model": model, "epochs": epochs}
    options |= {"select": select and select.value}
    given = {option: value for option, value in options.items() if value is not None}
    configure: Callable[..., Any] | None = getattr(settings, "configure", None)
    known = inspect.signature(configure).parameters if configure else {}
    for option in given:
        if option not in known:
            raise typer.BadParameter(f"the experiment '{name}' has no option --{option}.")
    if configure:
        with exit_on_error():
            settings = configure(**given)
    if data is not None and _is_drawn(data):
        console.print(
            f"{data} is a drawn miniature, not the official data, though these are the settings "
            "for them: numbers do not compare with the paper's.",
            markup=False,
        )
    kind = "" if data is None else "-data"
    usual = getattr(module.SETTINGS, "select", Selection.GRID.value)
    kind += "" if select is None or select.value == usual else f"-{select.value}"
    kind += "-fast" if fast else ""
    cells = out / f"{getattr(settings, 'cells', name)}{kind}"
    published = RESULTS / cells.name / CELLS
    store = CellStore[Any](cells, asdict(settings), module.RESULT, published)
    program = context.find_root().info_name or ""
    return ChosenExperiment(program, name, module, settings, store, out / f"{name}{kind}")


def named_methods(names: str) -> tuple[str, ...]:
    """The methods of a list with commas, in the order of all.

    :raises typer.BadParameter: if there is no such method.
    """
    from avalanche_mas.plugins.registry import METHODS

    wanted = [*METHODS] if names == "all" else [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in METHODS:
            raise unknown("method", name, METHODS)
    return tuple(name for name in METHODS if name in wanted)


def _is_drawn(data: Path) -> bool:
    from avalanche_mas.miniature.facts.writing import MARKER as FACTS
    from avalanche_mas.miniature.objects.writing import MARKER as OBJECTS

    return any((data / marker).is_file() for marker in (FACTS, OBJECTS))


@dataclass(frozen=True)
class ChosenFile:
    """A file of the user's own as a command asks for it.

    :param path: the file.
    :param folder: where its runs, tables and plots go.
    :param arguments: for :func:`.compare_methods`, as far as the command says.
    """

    path: Path
    folder: Path
    arguments: dict[str, Any]


def choose_file(
    name: str,
    out: Path,
    only: str | None,
    seeds: int | None,
    epochs: int | None,
    select: Selection | None,
    **others: Any,
) -> ChosenFile:
    """Find a file; its options are those of :func:`choose` that are named here.

    :raises typer.BadParameter: if another option is given.
    """
    for option in ("fast", "data", "vectors", "model"):
        if others[option]:
            raise typer.BadParameter(f"a file of one's own has no option --{option}.")
    if select not in (None, Selection.GRID, Selection.PUBLISHED):
        raise typer.BadParameter("for a file of one's own --select is grid or published.")
    lambdas = None if select is None else select.value
    given = {"methods": only, "seeds": seeds, "epochs": epochs, "lambdas": lambdas}
    path = Path(name)
    return ChosenFile(path, out / path.stem, {k: v for k, v in given.items() if v is not None})


def with_experiment(command: Callable[..., None], files: bool = False) -> Callable[..., None]:
    """Give a command the options of :func:`choose`, in the place of its first argument.

    :param command: takes a :class:`ChosenExperiment`, then options of its own.
    :param files: whether it takes a :class:`ChosenFile` too.
    """
    shared = inspect.signature(choose, eval_str=True).parameters
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def whole(**options: Any) -> None:
        given = {name: options.pop(name) for name in shared}
        find = choose_file if files and given["name"].endswith(".py") else choose
        command(find(**given), **options)

    # Typer reads both.
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*shared.values(), *own)]
    whole.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    whole.__annotations__ = {p.name: p.annotation for p in parameters}
    return whole


def unknown(kind: str, name: str, known: Iterable[str]) -> typer.BadParameter:
    """The error that nothing is called so, with the name that is most like it."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return typer.BadParameter(f"no {kind} is called '{name}'.{hint} There are: {', '.join(names)}.")


def check_writable(folder: Path) -> None:
    """Makes sure that results can be put into a folder, which need not exist; nothing is made.

    :raises OSError: if not.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file: name a folder for the results with --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{there} may not be written to: name another folder with --out")


@contextmanager
def exit_on_error(
    kinds: tuple[type[Exception], ...] = (ImportError, OSError, ValueError),
) -> Iterator[None]:
    """Show what the user can put right, without a traceback.

    :param kinds: of errors; by default those of bad input.
    """
    try:
        yield
    except kinds as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
