"""The files of the eight datasets: what is there, getting them, checking them, drawing small ones.

ROOT is a folder with one folder for each dataset.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from avalanche_mas.benchmarks.download.download import download as get
from avalanche_mas.benchmarks.download.status import Status, is_miniature, problems_of
from avalanche_mas.benchmarks.download.status import status as look

if TYPE_CHECKING:
    from avalanche_mas.benchmarks.datasets import ImageDataset

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
console = Console()

Root = Annotated[Path, typer.Argument(help="The folder of all datasets.")]
Only = Annotated[
    list[str] | None,
    typer.Option(help="A dataset as `status` calls it, such as birds; may be given several times."),
]
_COLOURS = {"complete": "green", "other size": "yellow", "miniature": "cyan"}


@app.command()
def status(root: Root, only: Only = None) -> None:
    """Show what is there, what is missing, and where to get it."""
    drawn = is_miniature(root)
    found = [look(dataset, root) for dataset in _chosen(only)]
    table = Table("dataset", "folder", "train", "test", "classes", "state", title=str(root))
    for one in found:
        dataset = one.dataset
        state = "miniature" if drawn and one.state == "other size" else one.state
        counts = (f"{one.samples.get(key, 0):,}/{n:,}" for key, n in dataset.sizes.items())
        classes = f"{one.n_classes}/{dataset.n_classes}"
        colour = _COLOURS.get(state, "red")
        table.add_row(dataset.key, dataset.folder, *counts, classes, f"[{colour}]{state}")
    console.print(table)
    for one in found:
        _explain(one, root)
    if any(one.missing for one in found):
        console.print("\n`download` gets what it can, and unpacks archives that you put there.")
    if not root.is_dir():
        _finish([f"{root} {'is no folder' if root.exists() else 'does not exist'}"], "")


@app.command()
def download(root: Root, only: Only = None) -> None:
    """Download, check and unpack what is missing; an interrupted download goes on."""
    problems: list[str] = []
    for dataset in _chosen(only):
        problems += get(dataset, root, console)
    _finish(problems, "All is there.")


@app.command()
def verify(root: Root, only: Only = None) -> None:
    """Check archives against their checksums, count samples, open every image."""
    problems: list[str] = []
    for dataset in _chosen(only):
        found = list(problems_of(dataset, root, console.is_terminal))
        console.print(f"{dataset.key}: {'[red]not good' if found else '[green]good'}")
        problems += found
    _finish(problems, "All is good.")


@app.command(name="miniature")
def draw(
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
    from avalanche_mas.miniature.objects import miniature

    try:
        miniature(root, images_per_class=images_per_class, size=size, seed=seed, archives=archives)
    except FileExistsError as error:
        _finish([str(error)], "")
    console.print(f"The miniature is in {root}", soft_wrap=True)


def _chosen(only: list[str] | None) -> list[type[ImageDataset]]:
    """Return the datasets of these names, or all."""
    from avalanche_mas.benchmarks.datasets import DATASETS  # here, as it takes seconds to import

    unknown = sorted(set(only or ()) - set(DATASETS))
    if unknown:
        raise typer.BadParameter(f"there is no dataset {unknown[0]}: give {', '.join(DATASETS)}")
    return [dataset for key, dataset in DATASETS.items() if not only or key in only]


def _explain(one: Status, root: Path) -> None:
    """Say what is wrong with a dataset and what to do."""
    if one.missing:
        console.print(f"\n[bold]{one.dataset.title}[/bold] needs")
        for file in one.missing:
            console.print(f"- {escape(file.where_to_get(str(root)))}", soft_wrap=True)
    elif one.problem:
        console.print(f"\n[bold]{one.dataset.title}[/bold]: {escape(one.problem)}", soft_wrap=True)


def _finish(problems: list[str], success: str) -> None:
    """Say how it ended; problems make the program fail."""
    for problem in problems:
        console.print(f"[red]•[/red] {escape(problem)}", soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    console.print(success)
