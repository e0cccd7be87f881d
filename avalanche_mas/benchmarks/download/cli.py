"""The files of the eight datasets: what is there, getting them, checking them, drawing small ones.

ROOT is a folder with one folder for each dataset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avalanche_mas.benchmarks.datasets import DATASETS, DatasetInfo
from avalanche_mas.benchmarks.download.download import download as get
from avalanche_mas.benchmarks.download.progress import bar
from avalanche_mas.benchmarks.download.status import Status, is_miniature, unreadable, wrong_files
from avalanche_mas.benchmarks.download.status import status as look
from avalanche_mas.miniature.objects import miniature as draw_miniature

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
console = Console()

Root = Annotated[Path, typer.Argument(help="The folder of all datasets.")]
Only = Annotated[
    list[str] | None,
    typer.Option(help=f"One dataset ({', '.join(DATASETS)}); may be given several times."),
]
_COLOURS = {"complete": "green", "other size": "yellow", "miniature": "cyan"}


@app.command()
def status(root: Root, only: Only = None) -> None:
    """Show what is there, what is missing, and where to get it."""
    drawn = is_miniature(root)
    found = [look(info, root) for info in _chosen(only)]
    table = Table("dataset", "folder", "train", "test", "classes", "state", title=str(root))
    for one in found:
        state = "miniature" if drawn and one.state == "other size" else one.state
        counts = (f"{one.samples.get(key, 0):,}/{n:,}" for key, n in one.info.sizes.items())
        classes = f"{one.n_classes}/{one.info.n_classes}"
        colour = _COLOURS.get(state, "red")
        table.add_row(one.info.key, one.info.folder, *counts, classes, f"[{colour}]{state}")
    console.print(table)
    for one in found:
        _explain(one, root)
    if any(one.missing for one in found):
        console.print("\n`download` gets what it can, and unpacks archives put there by hand.")


@app.command()
def download(root: Root, only: Only = None) -> None:
    """Download, check and unpack what is missing; an interrupted download goes on."""
    problems: list[str] = []
    for info in _chosen(only):
        problems += get(info, root, console)
    _finish(problems, "All is there.")


@app.command()
def verify(root: Root, only: Only = None) -> None:
    """Check archives against their checksums, count samples, open every image."""
    problems: list[str] = []
    drawn = is_miniature(root)
    for info in _chosen(only):
        before = len(problems)
        if not drawn:
            with bar(console, f"{info.key}: checksums") as report:
                problems += wrong_files(info, root, report)
        found = look(info, root)
        if found.state not in ("complete", "other size"):
            what = found.problem or f"{', '.join(file.gives for file in found.missing)} missing"
            problems.append(f"{info.title}: {what}")
        else:
            for split, expected in info.sizes.items():
                if not drawn and found.samples[split] != expected:
                    has = f"{found.samples[split]:,} {split} samples instead of {expected:,}"
                    problems.append(f"{info.title} has {has}")
                with bar(console, f"{info.key}: {split} images", in_bytes=False) as report:
                    problems += unreadable(info.loader(root, split), report)
        good = len(problems) == before
        console.print(f"{info.key}: {'[green]good' if good else '[red]not good'}")
    _finish(problems, "All is good.")


@app.command()
def miniature(
    root: Root,
    images_per_class: Annotated[
        int, typer.Option(min=2, help="Training images; half as many are test images.")
    ] = 40,
    size: Annotated[int, typer.Option(min=16, help="The height of an image in pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other images.")] = 0,
    archives: Annotated[
        bool, typer.Option("--archives", help="Pack them too, as the official files are.")
    ] = False,
) -> None:
    """Draw a small copy of all eight datasets, in the layouts of the official files."""
    try:
        draw_miniature(
            root, images_per_class=images_per_class, size=size, seed=seed, archives=archives
        )
    except FileExistsError as error:
        _finish([str(error)], "")
    console.print(f"The miniature is in {root}", soft_wrap=True)


def _chosen(only: list[str] | None) -> list[DatasetInfo]:
    """Return the datasets of these names, or all."""
    unknown = sorted(set(only or ()) - set(DATASETS))
    if unknown:
        raise typer.BadParameter(f"there is no dataset {unknown[0]}: give {', '.join(DATASETS)}")
    return [info for key, info in DATASETS.items() if not only or key in only]


def _explain(one: Status, root: Path) -> None:
    """Say what is wrong with a dataset and what to do."""
    if one.missing:
        console.print(f"\n[bold]{one.info.title}[/bold] needs")
        for file in one.missing:
            console.print(f"- {escape(file.where_to_get(str(root)))}", soft_wrap=True)
    elif one.problem:
        console.print(f"\n[bold]{one.info.title}[/bold]: {escape(one.problem)}", soft_wrap=True)


def _finish(problems: list[str], success: str) -> None:
    """Say how it ended; problems make the program fail."""
    for problem in problems:
        console.print(f"[red]•[/red] {escape(problem)}", soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    console.print(success)
