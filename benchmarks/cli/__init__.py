"""Compare Memory Aware Synapses with other methods, and keep every result."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from enum import Enum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..runs.silence import silence_libraries
from ..runs.store import versions
from .experiment import (
    RESULTS,
    ChosenExperiment,
    ChosenFile,
    check_writable,
    console,
    exit_on_error,
    named_methods,
    unknown,
    with_experiment,
)

# Experiments, and all that imports torch or Avalanche, are imported by the commands that need them:
# help has to answer at once.

silence_libraries()
app = typer.Typer(add_completion=False)

WHAT = (
    "An experiment trains networks on sequences of tasks, with several methods and seeds, and "
    "makes a table or figure. Each of its runs, a cell, is kept as soon as it is finished: what "
    "was interrupted goes on where it stopped, and nothing is run twice."
)
EXAMPLES = {
    "list": "which experiments and methods there are",
    "run digits --dry-run": "what would be run, and how long it may take",
    "run digits": "run it, or what is left of it",
    "run digits --methods MAS,EWC": "only these two",
    "compare digits MAS EWC": "two methods beside each other, seed by seed",
    "compare my_benchmark.py": "methods on a benchmark and a model of your own",
    "claims": "what the paper claims, what was measured here, and whether it holds",
}
TWO_AT_MOST = min(2, os.cpu_count() or 1)


class ExecutorName(str, Enum):
    """Where cells are run."""

    LOCAL = "local"
    RAY = "ray"


# Options of the commands that run cells.
Workers = Annotated[
    int,
    typer.Option("--workers", "--jobs", min=1, help="How many cells at a time, on this machine."),
]
Where = Annotated[
    ExecutorName,
    typer.Option("--executor", help="Processes of this machine, one core each; or a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="Of a running Ray cluster, or `auto`; it runs as many cells as fit into it.",
        show_default="a cluster of this machine, for this command",
    ),
]
Cpus = Annotated[
    int | None,
    typer.Option(min=1, help="What a cell asks Ray for, and the threads it has.", show_default="1"),
]
Gpus = Annotated[
    float | None,
    typer.Option(min=0.0, help="The same; 0.5 puts two cells on a GPU.", show_default="0"),
]


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the versions that results depend on.")
    ] = False,
) -> None:
    """Compare Memory Aware Synapses with other methods, and keep every result."""
    if not console.is_terminal:  # a pipe has no width, so tables need not be squeezed
        console.width = shutil.get_terminal_size((160, 24)).columns
    if version:
        console.print(versions(), highlight=False, soft_wrap=True)
        raise typer.Exit()
    if context.invoked_subcommand is None:
        console.print(context.get_help())
        examples = Table.grid(padding=(0, 2))
        for words, meaning in EXAMPLES.items():
            examples.add_row(f"{context.info_name} {words}", meaning)
        console.print(f"{WHAT}\n", examples, "\n`run --help` shows all options.", highlight=False)


@app.command()
@with_experiment
def run(
    chosen: ChosenExperiment,
    workers: Workers = TWO_AT_MOST,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show what would be run, and how long it may take."),
    ] = False,
    executor: Where = ExecutorName.LOCAL,
    address: Address = None,
    cpus_per_cell: Cpus = None,
    gpus_per_cell: Gpus = None,
) -> None:
    """Run an experiment, or what is left of it, then print and save its table and plot."""
    from ..runs.executors import check_options, start
    from ..runs.runner import Runner, WorkerDiedError

    with exit_on_error():
        check_options(executor.value, cpus_per_cell, gpus_per_cell)
        for folder in (chosen.store.folder, chosen.folder):
            check_writable(folder)
        if dry_run and hasattr(chosen.settings, "check"):
            chosen.settings.check()
    if dry_run:
        _plan(chosen, workers)
        return
    with _stoppable(chosen.store.folder), exit_on_error((OSError, WorkerDiedError)):
        with exit_on_error():
            started = start(executor.value, workers, address, cpus_per_cell, gpus_per_cell)
        with closing(started):
            if hasattr(chosen.settings, "prepare"):
                with exit_on_error():
                    chosen.settings.prepare()
            with Runner(chosen.module.run_cell, chosen.store, started) as run_cells:
                _first_look(chosen, run_cells)
                outcome = chosen.module.run(chosen.settings, run_cells)
        _write(outcome, chosen)


@app.command()
@with_experiment
def report(chosen: ChosenExperiment) -> None:
    """Print and save the table and plot of an experiment that was run, without running any."""
    with exit_on_error((OSError,)):
        _write(chosen.module.run(chosen.settings, chosen.finished), chosen)


@app.command()
@partial(with_experiment, files=True)
def compare(
    chosen: ChosenExperiment | ChosenFile,
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            help="Of an experiment: two methods or more, as the rows of the table are called.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Of a file: an argument of its functions, or batch_size, device, validation, "
            "classifier; may be repeated.",
        ),
    ] = None,
    workers: Workers = TWO_AT_MOST,
    executor: Where = ExecutorName.LOCAL,
    address: Address = None,
    cpus_per_cell: Cpus = None,
    gpus_per_cell: Gpus = None,
) -> None:
    """Show how a method differs from others, seed by seed; or run methods on a file of one's own.

    Of an experiment that was run: the first method beside the others, number by number.

    A file my_benchmark.py defines benchmark() and model(), and perhaps optimizer(parameters). On
    it the methods are trained, with λ chosen for each, and compared; runs are kept, and the same
    command goes on. --workers, --executor and what follows are for files.
    """
    methods = methods or []
    if isinstance(chosen, ChosenFile):
        where = (executor.value, workers, address, cpus_per_cell, gpus_per_cell)
        _compare_file(chosen, methods, settings or [], where)
        return
    from .compare import Collector, comparisons

    if settings:
        raise typer.BadParameter("--set is for a file of one's own.")
    if len(methods) < 2:
        given = f"only {methods[0]} is" if methods else "none is"
        raise typer.BadParameter(f"{given} given: name the methods to compare it with.")
    collector = Collector(chosen.finished)
    runs, known = chosen.settings, getattr(chosen.settings, "methods", ())
    asked_for = {label.partition(",")[0] for label in methods}  # "MAS, λ chosen" is of MAS
    if own := tuple(method for method in known if method in asked_for):
        runs = replace(runs, methods=own)  # the others need not have been run
    chosen.module.run(runs, collector)
    for method in methods:
        if method not in collector.labels():
            labels = dict.fromkeys([*collector.labels(), *known])
            raise unknown("method of this experiment", method, labels)
    with exit_on_error():
        for table in comparisons(collector.parts, methods):
            console.print(table)
    console.print(
        "Mean ± standard deviation over the seeds. The difference is taken seed by seed, so what "
        f"both share drops out of it. Better: on how many seeds {methods[0]} is.",
        style="dim",
    )


@app.command()
def claims(
    out: Annotated[Path, typer.Option(help="Where the results are.")] = Path("results"),
    fast: Annotated[
        bool, typer.Option("--fast", help="Of the tiny versions: are all parts working?")
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Also to benchmarks/results, README and docs.")
    ] = False,
) -> None:
    """Show every claim of the paper beside what was measured here, with a verdict."""
    from ..claims.paper import CLAIMS
    from ..claims.report import check_claims
    from ..claims.results import Results
    from .publishing import publish_claims

    with exit_on_error((OSError,)):
        found, origin = check_claims(CLAIMS, Results(out, RESULTS, fast))
        folder = out / f"claims{'-fast' if fast else ''}"
        files = found.write(folder, console, origin)
        if publish:
            files += publish_claims(found, origin)
    console.print(f"Saved: {', '.join(map(str, files))}", soft_wrap=True)


@app.command()
@with_experiment
def publish(chosen: ChosenExperiment) -> None:
    """Put a finished experiment's table, plots and runs into benchmarks/results, for a commit."""
    from .publishing import publish_experiment

    with exit_on_error((OSError,)):
        files = publish_experiment(chosen)
    console.print(f"Saved: {', '.join(map(str, files))}", soft_wrap=True)


@app.command()
def speed(
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="estimation, layers, penalty, memory, growth or deployment; may be repeated.",
            show_default="all",
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
    from ..speed.rows import SpeedSettings
    from ..speed.suite import run as measure

    if gpu:
        from ..speed.gpu import main

        chosen = [f"--model={name}" for name in models or ()]
        raise typer.Exit(
            main([*chosen, f"--rounds={rounds or 0}", *([f"--out={out}"] if out else [])])
        )
    settings = SpeedSettings(rounds or (2 if quick else 11), threads, "cpu", quick)
    folder = out or Path(f"results/speed{'-quick' if quick else ''}")
    with _stoppable(folder):
        try:
            measure(settings, folder, part or (), models or (), console)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        except RuntimeError as error:
            console.print(str(error), style="red", markup=False)
            raise typer.Exit(1) from None


@app.command()
def exactness(
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="torchvision, timm, transformers, peft or idioms; may be repeated.",
            show_default="all that are installed",
        ),
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="May be repeated.", show_default="all")
    ] = None,
    out: Annotated[Path, typer.Option(help="The results' folder.")] = Path("results/exactness"),
) -> None:
    """Compare importance with a naive loop on real architectures, and time it."""
    from ..exactness.command import run as compare_all

    with _stoppable(out):
        try:
            summary = compare_all(out, source or (), network or ())
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    console.print(f"{summary}. Saved in {out}: table.md, table.csv")


@app.command(name="list")
def list_all() -> None:
    """Show the experiments and the methods they compare."""
    from avalanche_mas.plugins.registry import METHODS

    from ..experiments import NAMES, load

    experiments = Table("experiment", "what it is", title="Experiments")
    for name in NAMES:
        experiments.add_row(name, load(name).DESCRIPTION)
    methods = Table("method", "what it does", "λ is its", "published", title="Methods")
    for name, method in METHODS.items():
        published = "\n".join(
            f"{', '.join(f'{key}={value}' for key, value in found.values.items())}: {found.source}"
            for found in method.published
        )
        description = f"{method.description}\n({method.source})"
        methods.add_row(name, description, ", ".join(method.strength) or "-", published)
    console.print(experiments, methods)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def data(context: typer.Context) -> None:
    """Datasets: what is there, what is missing, getting it, checking it, drawing a miniature."""
    from avalanche_mas.benchmarks.download.cli import app as data_app

    data_app(context.args, prog_name=context.command_path)


def _plan(chosen: ChosenExperiment, workers: int) -> None:
    """Show what a run would do."""
    from .plan import Planner, UnknownResultsError

    try:
        chosen.module.run(chosen.settings, Planner(chosen.store, console, workers))
    except UnknownResultsError as part:
        console.print(
            f"What comes after the part '{part}', if anything, depends on its results, as reported "
            f"runs depend on the λ that is chosen: run it, then ask again.",
            markup=False,
        )
    else:
        console.print("All is finished: nothing would be run.")


def _first_look(chosen: ChosenExperiment, run_cells: Any) -> None:
    """Run the first seed before all others, and save what it gives: something to look at, soon."""
    seeds = chosen.settings.seeds
    if len(seeds) < 2:
        return
    first = replace(chosen.settings, seeds=seeds[:1])
    outcome = chosen.module.run(first, lambda title, cells: run_cells(f"seed {seeds[0]}", cells))
    if run_cells.ran:
        files = outcome.write(chosen.folder, Console(quiet=True), chosen.store.origin())
        pictures = [file for file in files if file.suffix == ".png"] or files[:1]
        shown = ", ".join(map(str, pictures))
        console.print(f"A first look, at seed {seeds[0]} alone: {shown}", soft_wrap=True)


def _compare_file(
    chosen: ChosenFile, methods: list[str], settings: list[str], where: tuple[Any, ...]
) -> None:
    """Choose λ, train, print and save the comparison."""
    from ..own.compare import compare_methods
    from ..own.file import arguments_of
    from ..runs.executors import check_options, start
    from ..runs.runner import WorkerDiedError

    name, workers, _, *needs = where
    with exit_on_error():
        check_options(name, *needs)
        check_writable(chosen.folder)
        arguments = arguments_of(chosen.path, settings) | chosen.arguments  # may register methods
    if names := ",".join([*methods, *filter(None, [chosen.arguments.get("methods")])]):
        arguments["methods"] = named_methods(names)
    with (
        _stoppable(chosen.folder),
        exit_on_error((ImportError, OSError, TypeError, ValueError, WorkerDiedError)),
        closing(start(*where)) if name == "ray" else nullcontext(workers) as runs_them,
    ):
        found = compare_methods(**arguments, folder=chosen.folder, workers=runs_them)
        found.save(chosen.folder, console)
    console.print(f"Saved in {chosen.folder}", soft_wrap=True)


def _write(outcome: Any, chosen: ChosenExperiment) -> None:
    files = outcome.write(chosen.folder, console, chosen.store.origin())
    console.print(f"Saved in {chosen.folder}: {', '.join(file.name for file in files)}")


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
