"""Unpack an archive into a folder, all of it or nothing, and nothing outside that folder."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from avalanche_mas.benchmarks.download.progress import Report, silent


class ArchiveError(Exception):
    """An archive that must not or cannot be unpacked; the text names it and says why."""


def unpack(archive: Path, folder: Path, gives: str, report: Report = silent) -> None:
    """Unpack a tar file, compressed or not.

    Only folders and ordinary files are accepted. Owners, permissions and dates are not taken over.
    The contents are unpacked beside their place and moved there when all of them are whole.

    :param archive: the file.
    :param folder: where its contents go; what is there already stays, files of the same name are
        replaced.
    :param gives: what must be in the archive, as a path in ``folder``.
    :param report: is told how many bytes of the archive are read.
    :raises ArchiveError: if a member has an absolute name or one with ``..``, is a link or a
        device; if the archive is damaged or has no ``gives``. Then nothing was unpacked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{archive.name}.unpacking"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        _unpack_into(draft, archive, report)
        if not (draft / gives).exists():
            raise ArchiveError(f"{archive} has no {gives}: it is not the official archive")
        for path in draft.iterdir():
            _move(path, folder / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _unpack_into(draft: Path, archive: Path, report: Report) -> None:
    """Unpack into a new folder, in which there is no link that could lead out of it."""
    total = archive.stat().st_size
    try:
        with archive.open("rb") as packed, tarfile.open(fileobj=packed, mode="r:*") as tar:
            for member in tar:
                target = draft / _safe(archive, member)
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # an ordinary file has contents
                with content, target.open("wb") as out:
                    shutil.copyfileobj(content, out)
                report(packed.tell(), total)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ArchiveError(
            f"{archive} is damaged ({error}): delete it and download it again"
        ) from error


def _safe(archive: Path, member: tarfile.TarInfo) -> PurePosixPath:
    """Return where a member belongs, if it belongs into the folder at all."""
    name = PureWindowsPath(member.name)  # parts folders at / and at \
    if name.anchor:
        problem = "has an absolute name"
    elif ".." in name.parts:
        problem = "leads out of the folder"
    elif member.issym() or member.islnk():
        problem = f"is a link to {member.linkname}"
    elif not (member.isdir() or member.isreg()):
        problem = "is neither a file nor a folder"
    else:
        return PurePosixPath(member.name)
    raise ArchiveError(f"{archive}: its member {member.name} {problem}; nothing was unpacked")


def _move(source: Path, target: Path) -> None:
    """Move a folder as a whole if it is new, or else what is in it."""
    if source.is_dir() and target.is_dir():
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        source.replace(target)
