"""Download one file: go on where an earlier attempt stopped, keep nothing that is not right."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from avalanche_mas.benchmarks.download.checksum import what_is_wrong
from avalanche_mas.benchmarks.download.progress import reading

if TYPE_CHECKING:
    from avalanche_mas.benchmarks.datasets import OfficialFile

_CHUNK = 1 << 16
_PATIENCE = 60.0  # seconds without a byte
_ATTEMPTS = 4  # in a row that bring nothing new
_ATTEMPTS_IN_ALL = 100  # a server may send something new each time, and never all of it
_PAUSE = 0.5  # seconds between two attempts; it doubles while nothing new comes
_BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError)


class DownloadError(Exception):
    """A file could not be had; the text names it and says what to do."""


def addresses(file: OfficialFile) -> list[str]:
    """List where a file may be downloaded from: its official address, then a mirror's.

    A mirror is asked only if the file's checksum is known, which then decides.

    :param file: the file.
    :return: the addresses that a program can use; those for people are not among them.
    """
    official = [file.url] if file.alive else []
    checked = file.md5 is not None or file.sha256 is not None
    usable = checked and re.fullmatch(r"(https?|file)://\S+/\S+", file.mirror)
    return official + ([file.mirror] if usable else [])


def fetch(file: OfficialFile, folder: Path, verbose: bool = False) -> Path:
    """Download a file into a folder.

    What has arrived is kept in ``<name>.part``, and the next call asks for the rest only. A file
    whose checksum is wrong is kept aside as ``<name>.wrong``.

    :param file: what to download.
    :param folder: where to; it is made if need be.
    :param verbose: show a progress bar.
    :return: the path of the file, which is whole and right.
    :raises DownloadError: if no address has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / file.name, folder / f"{file.name}.part"
    problems = []
    for url in addresses(file):
        try:
            _fetch_from(url, part, file.size, verbose)
        except (*_BROKEN, DownloadError) as error:
            kept = f"; {part} is kept, and the same command goes on" if part.exists() else ""
            problems.append(f"{url} does not give it ({_reason(error)}){kept}")
            continue
        wrong = what_is_wrong(part, file, verbose)
        if wrong is None:
            part.replace(path)
            return path
        aside = path.with_name(f"{file.name}.wrong")
        part.replace(aside)
        problems.append(f"what {url} gave {wrong}; it is kept as {aside}")
    reasons = "; ".join(problems) or "its official address is dead"
    raise DownloadError(f"{file.name}: {reasons}")


def _fetch_from(url: str, part: Path, size: int | None, verbose: bool) -> None:
    """Append to ``part`` until it is whole; try again as long as something new comes."""
    failures, most = 0, _size(part)
    error: Exception
    for _ in range(_ATTEMPTS_IN_ALL):
        try:
            if _ask(url, part, size, verbose):
                return
            error = OSError("the connection closed too early")
        except urllib.error.HTTPError:
            raise  # the server is there and says no
        except _BROKEN as problem:
            error = problem
        # Compared with the most there ever was: a server without Range starts afresh each time.
        failures = 0 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures == _ATTEMPTS:
            break
        time.sleep(_PAUSE * 2 ** max(0, failures - 1))
    raise error


def _ask(url: str, part: Path, size: int | None, verbose: bool) -> bool:
    """Ask for what is not in ``part`` yet.

    :param size: of the whole file, if it is known.
    :return: whether all of it came.
    """
    start = _size(part)
    headers = {"User-Agent": "avalanche-mas", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=_PATIENCE)
    except urllib.error.HTTPError as error:
        if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            # There is nothing after `start`: either that is all, or `part` is of another file.
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return True
            part.unlink()
            return False
        raise
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise DownloadError(
                "a web page came instead of the file: open the address in a browser"
            )
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0  # this server sends everything, or it is a file of this machine
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise OSError("the server sent another part of the file than was asked for")
        length = answer.headers.get("Content-Length", "")
        if length and not length.isdecimal():
            raise DownloadError(f"the server sends a file of {length!r} bytes, which is no number")
        total = start + int(length) if length else None
        if None not in (total, size) and total != size:
            raise DownloadError(
                f"the server has {total:,} bytes under this name instead of {size:,}"
            )
        with (
            part.open("r+b" if start else "wb") as out,
            reading(answer, part.stem, verbose, total=total, initial=start) as source,
        ):
            out.seek(start)
            try:
                shutil.copyfileobj(source, out, _CHUNK)
            finally:  # to the disk and not just to its cache, also if the connection breaks
                out.flush()
                os.fsync(out.fileno())
            return total is None or out.tell() == total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: BaseException) -> str:
    """Say what went wrong in a few words."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(inner)
