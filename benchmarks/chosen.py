"""From the words of a command to an experiment, its settings, and its finished cells."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from rich.console import Console

from .store import Store

console = Console()


@dataclass(frozen=True)
class Chosen:
    """An experiment as a command asks for it.

    :param program: what the user calls this program.
    :param name: the experiment's.
    :param experiment: its module.
    :param settings: every hyper-parameter.
    :param store: where its cells are kept; experiments may share them.
    :param folder: where its tables and plots go.
    """

    program: str
    name: str
    experiment: ModuleType
    settings: Any
    store: Store[Any]
    folder: Path

    def finished(self, title: str, cells: Iterable[Any]) -> dict[Any, Any]:
        """Look cells up, where otherwise they are run.

        :raises typer.Exit: if one is not finished; what to do is printed.
        """
        found = {cell: self.store.load(cell) for cell in cells}
        missing = sum(result is None for result in found.values())
        if missing:
            console.print(
                f"{missing} of {len(found)} runs of the part '{title}' are not in "
                f"{self.store.folder}. Make them with: {self.program} run {self.name}, and the "
                f"same options.",
                markup=False,
            )
            raise typer.Exit(1)
        return found


def choose(
    context: typer.Context,
    name: str,
    out: Path,
    seeds: int | None,
    fast: bool,
    options: Mapping[str, Any],
) -> Chosen:
    """Settle the settings, and where cells and results go: a trial never mixes with the real thing.

    :param options: the options that only some experiments have; None for those not given.
    :raises typer.BadParameter: if there is no such experiment, or it has no such option.
    """
    experiment = _find(name, context)
    settings = experiment.FAST if fast else experiment.SETTINGS
    if seeds is not None:
        settings = replace(settings, seeds=tuple(range(seeds)))
    configure: Callable[..., Any] | None = getattr(experiment, "configure", None)
    known = inspect.signature(configure).parameters if configure else {}
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in known:
            raise typer.BadParameter(f"the experiment '{name}' has no option --{option}.")
    if configure:
        with told():
            settings = configure(settings, **given)
    select = given.get("select", "validation")
    kind = ("-data" if "data" in given else "") + ("" if select == "validation" else f"-{select}")
    kind += "-fast" if fast else ""
    cells = out / f"{getattr(experiment, 'CELLS', name)}{kind}"
    store = Store[Any](cells, asdict(settings), experiment.Result)
    program = context.find_root().info_name or ""
    return Chosen(program, name, experiment, settings, store, out / f"{name}{kind}")


def unknown(kind: str, name: str, known: Iterable[str]) -> typer.BadParameter:
    """The error that nothing is called so, with the name that is most like it."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return typer.BadParameter(f"no {kind} is called '{name}'.{hint} There are: {', '.join(names)}.")


@contextmanager
def told() -> Iterator[None]:
    """Show what the user can put right, without the way that led to it."""
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _find(name: str, context: typer.Context) -> ModuleType:
    """Look an experiment up, or help to find the one that is meant."""
    from .experiments import EXPERIMENTS  # Avalanche takes seconds to import

    if name not in EXPERIMENTS:
        console.print(context.get_help())
        raise unknown("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
