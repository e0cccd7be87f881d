"""The options that several commands have."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

TWO_AT_MOST = min(2, os.cpu_count() or 1)


class EngineName(str, Enum):
    """Where cells are worked on."""

    LOCAL = "local"
    RAY = "ray"


class Selection(str, Enum):
    """How λ is chosen."""

    VALIDATION = "validation"
    FRAMEWORK = "framework"
    PUBLISHED = "published"


Name = Annotated[str, typer.Argument(help="An experiment, as `list` shows them.")]
Out = Annotated[Path, typer.Option(help="Results are kept in a folder in here.")]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1, max=100, help="How many seeds are reported.", show_default="as the experiment says"
    ),
]
Workers = Annotated[
    int,
    typer.Option("--workers", "--jobs", min=1, help="How many cells at a time, on this machine."),
]
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
Select = Annotated[
    Selection | None,
    typer.Option(
        help="How λ is chosen: on whole streams with other seeds; for each experience on its own "
        "data (De Lange et al., 2021); or as published. Own folders.",
        show_default="as the experiment says",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be run, and how long it may take.")
]
EngineOption = Annotated[
    EngineName,
    typer.Option("--engine", help="Processes of this machine, one core each; or a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="Of a running Ray cluster, or `auto`; it works on as many cells as fit into it.",
        show_default="a cluster of this machine, for this command",
    ),
]
CpusPerCell = Annotated[
    int | None,
    typer.Option(min=1, help="What a cell asks Ray for, and the threads it has.", show_default="1"),
]
GpusPerCell = Annotated[
    float | None,
    typer.Option(min=0.0, help="The same; 0.5 puts two cells on a GPU.", show_default="0"),
]
