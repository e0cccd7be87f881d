"""Measures what is asked for and not stored yet, then writes tables and plots of all there is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from . import deployment, estimation, growth, layers, memory, penalty
from .child import in_child
from .machine import facts, sentence
from .networks import NETWORKS
from .report import SpeedReport
from .rows import Row, Section, SpeedSettings
from .store import SectionStore

PARTS = {
    "estimation": estimation.sections,
    "layers": layers.sections,
    "penalty": penalty.sections,
    "memory": memory.sections,
    "growth": growth.sections,
    "deployment": deployment.sections,
}
QUICK_NETWORKS = ("mlp", "vit", "lstm")


def run(
    settings: SpeedSettings,
    folder: Path,
    parts: Sequence[str],
    networks: Sequence[str],
    console: Console,
) -> None:
    """Run the suite, or what is left of it.

    :param settings: what all figures of a folder share.
    :param folder: where results go; sections that are finished there are not measured again.
    :param parts: names from :data:`PARTS`; none for all.
    :param networks: names from :data:`~benchmarks.speed.networks.NETWORKS`; none for all.
    :raises ValueError: for an unknown name, or if the folder's figures were made otherwise.
    :raises RuntimeError: without CUDA, if that is asked for, and if a measurement fails.
    """
    for kind, chosen, known in (("part", parts, PARTS), ("model", networks, NETWORKS)):
        if unknown := [name for name in chosen if name not in known]:
            raise ValueError(f"no {kind} is called {unknown[0]!r}. There are: {', '.join(known)}.")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("--gpu needs CUDA, and torch finds none here: leave it out")
    networks = networks or (QUICK_NETWORKS if settings.quick else tuple(NETWORKS))
    store = SectionStore(folder, facts(settings))
    sections = [s for part in parts or PARTS for s in PARTS[part](settings, networks)]
    with Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}", style="dim"),
        console=console,
    ) as progress:
        bar = progress.add_task("", total=len(sections), last="")
        for section in sections:
            progress.update(bar, description=f"{section.part}: {section.name}", last="warming up")
            if section not in store:
                store.save(section, _measured(section, progress, bar))
            progress.advance(bar)
    made = f"Made with {sentence(facts(settings))}."
    files = SpeedReport(store.rows(), settings.quick).write(folder, console, made)
    console.print(
        f"Saved in {folder}: {', '.join(file.name for file in files)}. "
        "Finished sections are kept; to measure them afresh, delete the folder."
    )


def _measured(section: Section, progress: Progress, bar: TaskID) -> list[Row]:
    rows = []
    for arguments in section.calls:
        for row in in_child(section.measure, *arguments, environment=section.environment):
            rows.append(row)
            progress.update(bar, last=f"round {row.round + 1}: {row.way}")
    return rows
