"""Compare Memory Aware Synapses with other methods, and keep every result."""

from __future__ import annotations

import difflib
import inspect
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.silence import silence_libraries
from benchmarks.store import Store

# The experiments are imported where they are needed: Avalanche takes seconds to import.

silence_libraries()
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
console = Console()

Name = Annotated[str, typer.Argument(help="An experiment, as `list` shows them.")]
Out = Annotated[Path, typer.Option(help="Results are kept in a folder in here.")]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1, max=100, help="How many seeds are reported.", show_default="as the experiment says"
    ),
]
Workers = Annotated[
    int, typer.Option("--workers", "--jobs", min=1, help="How many processes work, one core each.")
]
TWO_AT_MOST = min(2, os.cpu_count() or 1)
Fast = Annotated[
    bool, typer.Option("--fast", help="A tiny version: are all parts working? Own folder.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="The folder of the official data, with the paper's settings. Own folder.",
        show_default="a drawn miniature",
    ),
]
Vectors = Annotated[
    Path | None,
    typer.Option(
        help="A file of word vectors, for the facts in --data.",
        show_default="the embeddings that come with the data",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="The network, or a file of its weights.", show_default="as fits the data"),
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Passes over each task.", show_default="as fits the data")
]


@app.command()
def run(
    context: typer.Context,
    name: Name,
    out: Out = Path("results"),
    seeds: Seeds = None,
    workers: Workers = TWO_AT_MOST,
    fast: Fast = False,
    data: Data = None,
    vectors: Vectors = None,
    model: Model = None,
    epochs: Epochs = None,
) -> None:
    """Run an experiment, or what is left of it, then print and save its table and plot."""
    experiment = _find(name, context)
    options = {"data": data, "vectors": vectors, "model": model, "epochs": epochs}
    settings, store, folder = _prepare(experiment, name, out, seeds, fast, options)
    from benchmarks.runner import Runner

    with _stoppable(store.folder):
        if hasattr(experiment, "prepare"):
            with _told_of_bad_data():
                experiment.prepare(settings)
        with Runner(experiment.run_cell, store, workers) as run_cells:
            outcome = experiment.run(settings, run_cells)
    _show(outcome, store, folder)


@app.command()
def report(
    context: typer.Context,
    name: Name,
    out: Out = Path("results"),
    seeds: Seeds = None,
    fast: Fast = False,
    data: Data = None,
    vectors: Vectors = None,
    model: Model = None,
    epochs: Epochs = None,
) -> None:
    """Print and save the table and plot of an experiment that was run, without running any."""
    experiment = _find(name, context)
    options = {"data": data, "vectors": vectors, "model": model, "epochs": epochs}
    settings, store, folder = _prepare(experiment, name, out, seeds, fast, options)

    def look_up(title: str, cells: Iterable[Any]) -> dict[Any, Any]:
        found = {cell: store.load(cell) for cell in cells}
        missing = sum(result is None for result in found.values())
        if missing:
            console.print(
                f"{missing} of {len(found)} runs of the part '{title}' are not in {store.folder}. "
                f"Make them with: python -m benchmarks run {name}, and the same options."
            )
            raise typer.Exit(1)
        return {cell: result for cell, result in found.items() if result is not None}

    _show(experiment.run(settings, look_up), store, folder)


@app.command()
def speed(
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="estimation, penalty, memory or growth; may be repeated.", show_default="all"
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="mlp, alexnet, resnet18, vit or lstm; may be repeated.", show_default="all"
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=2, help="How often each way is timed.", show_default="11, quick: 2"),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="How many threads torch works with.")
    ] = TWO_AT_MOST,
    gpu: Annotated[bool, typer.Option("--gpu", help="Measure on CUDA.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="The results' folder.", show_default="results/speed")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: are all parts working? Own folder.")
    ] = False,
) -> None:
    """Measure what importance and penalty cost, against other ways and against the floor."""
    from benchmarks.speed.rows import Settings
    from benchmarks.speed.suite import run as measure

    settings = Settings(rounds or (2 if quick else 11), threads, "cuda" if gpu else "cpu", quick)
    folder = out or Path(f"results/speed{'-gpu' if gpu else ''}{'-quick' if quick else ''}")
    with _stoppable(folder):
        try:
            measure(settings, folder, part or (), models or (), console)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        except RuntimeError as error:
            console.print(str(error), style="red", markup=False)
            raise typer.Exit(1) from None


@app.command(name="list")
def list_all() -> None:
    """Show the experiments and the methods they compare."""
    from avalanche_mas.methods import METHODS
    from benchmarks.experiments import EXPERIMENTS

    experiments = Table("experiment", "what it is", title="Experiments")
    for name, experiment in EXPERIMENTS.items():
        experiments.add_row(name, experiment.DESCRIPTION)
    methods = Table("method", "what it does", "λ is its", "published", title="Methods")
    for name, method in METHODS.items():
        published = "\n".join(
            f"{', '.join(f'{key}={value}' for key, value in found.values.items())}: {found.source}"
            for found in method.published
        )
        description = f"{method.description}\n({method.source})"
        methods.add_row(name, description, ", ".join(method.strength) or "-", published)
    console.print(experiments, methods)


def _find(name: str, context: typer.Context) -> ModuleType:
    """Look an experiment up, or help to find the one that is meant."""
    from benchmarks.experiments import EXPERIMENTS

    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    console.print(context.get_help())
    near = difflib.get_close_matches(name, EXPERIMENTS, n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    known = ", ".join(EXPERIMENTS)
    raise typer.BadParameter(f"no experiment is called '{name}'.{hint} There are: {known}.")


def _prepare(
    experiment: ModuleType,
    name: str,
    out: Path,
    seeds: int | None,
    fast: bool,
    options: Mapping[str, Any],
) -> tuple[Any, Store[Any], Path]:
    """Settle the settings, and where cells and results go: a trial never mixes with the real thing.

    :param options: the options that only some experiments have; None for those not given.
    """
    settings = experiment.FAST if fast else experiment.SETTINGS
    if seeds is not None:
        settings = replace(settings, seeds=tuple(range(seeds)))
    configure = getattr(experiment, "configure", None)
    known = inspect.signature(configure).parameters if configure else {}
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in known:
            raise typer.BadParameter(f"the experiment '{name}' has no option --{option}.")
    if configure:
        with _told_of_bad_data():
            settings = configure(settings, **given)
    kind = ("-data" if "data" in given else "") + ("-fast" if fast else "")
    cells = out / f"{getattr(experiment, 'CELLS', name)}{kind}"
    return settings, Store(cells, asdict(settings), experiment.Result), out / f"{name}{kind}"


@contextmanager
def _told_of_bad_data() -> Iterator[None]:
    """Show what is wrong with the user's files, without the way that led to it."""
    try:
        yield
    except (OSError, ValueError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _show(outcome: Any, store: Store[Any], folder: Path) -> None:
    files = outcome.write(folder, console, store.origin())
    console.print(f"Saved in {folder}: {', '.join(file.name for file in files)}")


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the work inside, and say what is kept of it."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"Stopped. What is finished is in {folder}; the same command goes on.")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
