"""Unpack an archive into a folder, all of it or nothing, and nothing outside that folder."""

import gzip
import platform
import shutil
import tarfile
import zlib
from functools import partial
from pathlib import Path, PureWindowsPath

from avalanche_mas.benchmarks.download.progress import reading


class ArchiveError(Exception):
    """An archive that must not or cannot be unpacked; the text names it and says why."""


def unpack(archive: Path, folder: Path, gives: str, verbose: bool = False) -> None:
    """Unpack a tar file, compressed or not.

    Only folders and ordinary files are accepted. Owners, permissions and dates are not taken over.
    The contents are unpacked beside their place and moved there when all of them are whole.

    :param archive: the file.
    :param folder: where its contents go; what is there already stays, files of the same name are
        replaced.
    :param gives: what must be in the archive, as a path in ``folder``.
    :param verbose: show a progress bar.
    :raises ArchiveError: if a member has an absolute name or one with ``..``, is a link or a
        device; if the archive is damaged or has no ``gives``. Then nothing was unpacked.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ArchiveError(
            f"{archive}: Python {platform.python_version()} cannot unpack archives safely: use "
            "3.10.12, 3.11.4 or a later version"
        )
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{archive.name}.unpacking"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    title, total = f"unpacking {archive.name}", archive.stat().st_size
    try:
        with (
            archive.open("rb") as file,
            reading(file, title, verbose, total=total) as packed,
            tarfile.open(fileobj=packed) as tar,
        ):
            tar.extractall(draft, filter=partial(_accept, archive))
        if not (draft / gives).exists():
            raise ArchiveError(f"{archive} has no {gives}: it is not the official archive")
        for path in draft.iterdir():
            _move(path, folder / path.name)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ArchiveError(
            f"{archive} is damaged ({error}): delete it and download it again"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _accept(archive: Path, member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Return a member as it is to be unpacked, less than Python's own filter lets through."""
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
        plain = member.replace(mode=None, mtime=None, deep=False)  # type: ignore[arg-type]
        return tarfile.data_filter(plain, folder)
    raise ArchiveError(f"{archive}: its member {member.name} {problem}; nothing was unpacked")


def _move(source: Path, target: Path) -> None:
    """Move a folder as a whole if it is new, or else what is in it."""
    if source.is_dir() and target.is_dir():
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        source.replace(target)
