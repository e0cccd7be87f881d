"""Stores finished sections in a folder, one CSV file each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ..runs.store import write_whole
from .rows import Row, Section


class SectionStore:
    """A folder of sections that were measured on one machine with one set of settings.

    :param folder: it is made if need be.
    :param facts: see :func:`benchmarks.speed.machine.facts`.
    :raises ValueError: if the folder holds figures that were made under other conditions.
    """

    def __init__(self, folder: Path, facts: dict[str, str]) -> None:
        self.folder, self._raw = folder, folder / "raw"
        self._raw.mkdir(parents=True, exist_ok=True)
        known = self._raw / "machine.json"
        if known.exists():
            old = json.loads(known.read_text(encoding="utf-8"))
            if old != facts:
                unlike = [
                    f"{name} {old.get(name)} there, {facts.get(name)} now"
                    for name in sorted({*old, *facts})
                    if old.get(name) != facts.get(name)
                ]
                raise ValueError(
                    f"{folder} holds figures made otherwise ({'; '.join(unlike)}): figures of the "
                    "two cannot be compared. Delete it, or choose another folder with --out."
                )
        else:
            write_whole(known, json.dumps(facts, indent=1))

    def __contains__(self, section: Section) -> bool:
        """Whether a section is finished."""
        return self._path(section).exists()

    def save(self, section: Section, rows: Iterable[Row]) -> None:
        """Write a section's file."""
        frame = pd.DataFrame([asdict(row) for row in rows])
        frame.insert(0, "part", section.part)
        frame.insert(1, "section", section.name)
        write_whole(self._path(section), frame.to_csv(index=False))

    def rows(self) -> pd.DataFrame:
        """All figures so far; columns ``part``, ``section`` and those of a row."""
        files = sorted(self._raw.glob("*.csv"), key=lambda file: file.stat().st_mtime_ns)
        frames = [
            pd.read_csv(file, keep_default_na=False, na_values={"value": ""}) for file in files
        ]
        return pd.concat(frames, ignore_index=True)

    def _path(self, section: Section) -> Path:
        name = re.sub(r"[^a-z0-9]+", "-", f"{section.part} {section.name}".lower())
        return self._raw / f"{name}.csv"
