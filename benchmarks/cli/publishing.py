"""Puts what is to be committed into place: tables, figures, single runs, and the short claims."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..claims.report import ClaimsReport
from ..experiments import NAMES, load
from ..report.writer import Table
from ..runs.store import CellStore, read_cells, write_cells
from .experiment import RESULTS, ChosenExperiment, console

_MARKED = re.compile(r"(<!-- claims -->\n).*?(<!-- /claims -->)", re.DOTALL)


def publish_experiment(chosen: ChosenExperiment) -> list[Path]:
    """Write the table, the figures and the runs of a finished experiment.

    Of the runs that are there already, those stay that other experiments with the same runs need.

    :return: the files.
    """
    contents: dict[str, Any] = {}

    def look_up(title: str, cells: Iterable[Any]) -> dict[Any, Any]:
        results = chosen.finished(title, cells)
        contents.update({cell.name: chosen.store.content(cell) for cell in results})
        return results

    outcome = chosen.module.run(chosen.settings, look_up)
    files = outcome.write(RESULTS / chosen.folder.name, console, chosen.store.origin())
    published = chosen.store.published
    assert published is not None
    before = read_cells(published)
    stay = _asked_for(chosen.name, published) & before.keys()
    write_cells(published, {name: before[name] for name in stay} | contents)
    return [*files, published]


def _asked_for(but: str, published: Path) -> set[str]:
    """The names of the published runs that other experiments look up."""
    asked: set[str] = set()
    for name in NAMES:
        module = load(name)
        settings = module.SETTINGS
        if name == but or getattr(settings, "cells", name) != published.parent.name:
            continue
        store = CellStore[Any](
            published.parent / "none", asdict(settings), module.RESULT, published
        )

        def look_up(title: str, cells: Iterable[Any], store: CellStore[Any] = store) -> Any:
            found = {cell: store.find(cell) for cell in cells}
            asked.update(cell.name for cell in found)
            if None in found.values():
                raise LookupError(title)
            return found

        # each method by itself: what is published may be of some of them
        methods = [{"methods": (method,)} for method in getattr(settings, "methods", ())]
        for only in methods or [{}]:
            with suppress(LookupError):  # it has not been published, or not whole
                module.run(replace(settings, **only), look_up)
    return asked


def publish_claims(found: ClaimsReport, origin: str) -> list[Path]:
    """Write the table of claims, and the short one where pages have its marks.

    :param found: the report.
    :param origin: a sentence on what made the results.
    :return: the files.
    """
    files = found.write(RESULTS / "claims", Console(quiet=True), origin)
    short = next(part for part in found.parts(origin) if isinstance(part, Table))
    table = replace(short, title="").markdown()
    root = RESULTS.parents[1]
    for page in (root / "README.md", root / "docs" / "experiments.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(_MARKED.sub(lambda mark: f"{mark[1]}{table}\n{mark[2]}", text), "utf-8")
        files.append(page)
    return files
