"""Measures the networks that are not measured yet, then writes the table of all."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from ..runs.store import write_whole
from .case import Case
from .measure import Row, measure
from .networks import SOURCES, cases, installed
from .report import write_report


def run(folder: Path, sources: Sequence[str] = (), networks: Sequence[str] = ()) -> str:
    """Measure what is not in the folder yet, and report all that is.

    :param folder: each network has a JSON file in its subfolder ``raw``. Delete a file to have its
        network measured again.
    :param sources: names from :data:`.networks.SOURCES`; none for all that are installed.
    :param networks: names of networks; none for all.
    :return: the summary in a line.
    :raises ValueError: for an unknown source or network, or a source that is not installed.
    """
    chosen = _chosen(sources, networks)
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    left = [case for case in chosen if not _path(raw, case.source, case.name).exists()]
    with _quiet_on_one_thread():
        for case in (progress := tqdm(left, unit="network")):
            progress.set_postfix_str(case.name)
            _save(raw, measure(case))
    rows = [Row(**json.loads(file.read_text(encoding="utf-8"))) for file in sorted(raw.glob("*"))]
    return write_report(rows, folder)


@contextmanager
def _quiet_on_one_thread() -> Iterator[None]:
    """Without what the libraries say of configurations this small."""
    threads, disabled = torch.get_num_threads(), logging.root.manager.disable
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        torch.set_num_threads(threads)


def _chosen(sources: Sequence[str], networks: Sequence[str]) -> list[Case]:
    for source in sources:
        if source not in SOURCES:
            raise ValueError(f"no source is called {source!r}. There are: {', '.join(SOURCES)}.")
        if not installed(source):
            raise ValueError(f"{source} is not installed: pip install 'avalanche-mas[zoo]'")
    found = [c for name in sources or SOURCES if installed(name) for c in cases(name)]
    if unknown := set(networks) - {case.name for case in found}:
        raise ValueError(f"no network is called {min(unknown)!r} in the sources chosen")
    return [case for case in found if not networks or case.name in networks]


def _save(raw: Path, row: Row) -> None:
    write_whole(_path(raw, row.source, row.network), json.dumps(asdict(row), indent=1))


def _path(raw: Path, source: str, network: str) -> Path:
    return raw / f"{source}-{re.sub(r'[^A-Za-z0-9_]+', '-', network)}.json"
