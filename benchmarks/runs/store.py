"""Stores finished cells in a folder, one JSON file each."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic

from .cell import Cell, ResultT

_log = logging.getLogger(__name__)


class CellStore(Generic[ResultT]):
    """Finished cells on disk.

    :param folder: where the files lie; it is made if need be.
    :param settings: the hyper-parameters of the whole experiment, written into every file.
    :param result_type: the dataclass of the results.
    :param published: a file of further finished cells, see :func:`write_cells`; it need not exist.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        result_type: type[ResultT],
        published: Path | None = None,
    ) -> None:
        self.folder = folder
        self.published = published
        self.settings = settings
        self.result_type = result_type
        self._origins: dict[str, None] = {}  # an ordered set

    def origin(self) -> str:
        """Say which versions made the results that went through here."""
        mixed = " Results of unlike versions are mixed: delete the folder to start afresh."
        return f"Made with {'; '.join(self._origins)}.{mixed if len(self._origins) > 1 else ''}"

    def path(self, cell: Cell) -> Path:
        """The file of ``cell``, whether it is there or not."""
        return self.folder / f"{cell.name}.json"

    def save(
        self,
        cell: Cell,
        result: ResultT,
        seconds: float | None = None,
        origin: str | None = None,
    ) -> None:
        """Write a cell's file.

        :param cell: what was run.
        :param result: what it gave.
        :param seconds: how long it took in all.
        :param origin: the versions that made it; None: those of this process.
        """
        origin = origin or versions()
        self._origins[origin] = None
        content = {
            "cell": asdict(cell),
            "result": asdict(result),
            "seconds": seconds,
            "experiment": self.settings,
            "versions": origin,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(cell), json.dumps(content, indent=1, allow_nan=False))

    def load(self, cell: Cell) -> ResultT | None:
        """Read a finished cell.

        A file that is damaged, holds values of other types or is not about this cell is moved aside
        with a warning.

        :return: its result, or None if there is none yet.
        """
        path = self.path(cell)
        try:
            return self._result(cell, _read(path))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            aside = path.with_suffix(".json.unreadable")
            path.replace(aside)
            _log.warning("%s cannot be used (%s): moved to %s", path, error, aside.name)
            return None

    def find(self, cell: Cell) -> ResultT | None:
        """Read a finished cell, or else a published one.

        :return: its result, or None if there is none.
        :raises ValueError: if the published cell is not what it should be.
        """
        result = self.load(cell)
        if result is None and cell.name in self._published_cells:
            result = self._result(cell, self._published_cells[cell.name])
        return result

    def content(self, cell: Cell) -> dict[str, Any]:
        """All that is known of a cell that :meth:`find` finds, the experiment's settings aside."""
        path = self.path(cell)
        found = _read(path) if path.exists() else self._published_cells[cell.name]
        return {key: found[key] for key in ("cell", "result", "seconds", "versions")}

    @cached_property
    def _published_cells(self) -> dict[str, Any]:
        return read_cells(self.published) if self.published else {}

    def seconds(self, cell: Cell) -> float | None:
        """How long a finished cell took; None if it is not finished, or that was not noted."""
        try:
            content = _read(self.path(cell))
            seconds = content.get("seconds") or content["result"].get("train_seconds")
            return None if seconds is None else float(seconds)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def _result(self, cell: Cell, content: dict[str, Any]) -> ResultT:
        """The result that a file holds, if it is about this cell."""
        if content["cell"] != json.loads(json.dumps(asdict(cell))):  # tuples become lists
            raise ValueError("it is about another cell")
        result, origin = self._checked(content["result"]), content["versions"]
        if not isinstance(origin, str):
            raise ValueError(f"its versions are {origin!r}")
        self._origins[origin] = None
        return result

    def _checked(self, result: dict[str, Any]) -> ResultT:
        """The result of these values, each of the type that its field has."""
        from pydantic import TypeAdapter  # which takes a while to import

        self.result_type(**result)  # no other names than the fields'
        adapter = TypeAdapter(self.result_type)
        return adapter.validate_json(json.dumps(result), strict=True)


def _read(path: Path) -> Any:
    """What a JSON file holds.

    :raises ValueError: if it is none, or has NaN or infinity, which are not JSON.
    """
    return _parsed(path.read_text(encoding="utf-8"))


def _parsed(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"it has a {constant}")

    return json.loads(text, parse_constant=refuse)


def read_cells(file: Path) -> dict[str, Any]:
    """What :func:`write_cells` has written, by the cells' names; nothing if there is no file."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return {entry.pop("name"): entry for entry in map(_parsed, lines)}


def write_cells(file: Path, contents: Mapping[str, Any]) -> None:
    """Write many cells into one file, a line of JSON for each, in the order of their names.

    :param file: its folder is made if need be.
    :param contents: by the cells' names, what :meth:`CellStore.content` gives.
    """
    lines = [
        json.dumps({"name": name} | contents[name], separators=(",", ":"), allow_nan=False)
        for name in sorted(contents)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, "".join(f"{line}\n" for line in lines))


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file in one step: whatever happens, it is never there in part."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)  # a full disk is not to be filled by drafts


def versions() -> str:
    """Name the versions that results may depend on."""
    found = [f"Python {platform.python_version()}"]
    found += [f"{package} {version(package)}" for package in ("torch", "avalanche-lib")]
    # Read, not imported, which takes seconds; and a source tree has a version though not installed.
    spec = find_spec("avalanche_mas")
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    ours = re.search(r'^__version__ = "(.+)"', source, re.MULTILINE)
    return ", ".join([*found, f"avalanche-mas {ours[1] if ours else 'unknown'}"])
