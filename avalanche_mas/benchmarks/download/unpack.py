"""Unpack an archive into a folder, all of it or nothing, and nothing outside that folder."""

import lzma
import platform
import shutil
import tarfile
import zlib
from pathlib import Path, PureWindowsPath

from avalanche_mas.benchmarks.download.progress import reading

_CHUNK = 1 << 20
_DEEPEST = 32  # folders within each other; the official archives have 6
_LARGEST = 20  # times the archive's own size: pictures hardly pack at all
_LEAST_ROOM = 100_000_000  # bytes, for small archives of text


class ArchiveError(Exception):
    """An archive that must not or cannot be unpacked; the text names it and says why."""


def unpack(archive: Path, folder: Path, gives: str, verbose: bool = False) -> None:
    """Unpack a tar file, compressed or not.

    Only folders and ordinary files are accepted. Owners, permissions and dates are not taken over.
    The contents are unpacked beside their place and moved there when all of them are whole. They
    may have 20 times the archive's size, or 100 MB if that is more, so that no disk is filled by a
    small file.

    :param archive: the file.
    :param folder: where its contents go; what is there already stays, files of the same name are
        replaced.
    :param gives: what must be in the archive, as a path in ``folder``.
    :param verbose: show a progress bar.
    :raises ArchiveError: if a member has an absolute name or one with ``..``, lies too deep, is a
        link or a device; if the contents are too large; if the archive is damaged or has no
        ``gives``. Then nothing was unpacked.
    :raises OSError: if the disk is full or may not be written to.
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
            tar.extractall(draft, filter=_Members(archive).accept)
            while tar.fileobj is not None and tar.fileobj.read(_CHUNK):
                pass  # gzip's checksum comes at its very end
        if not (draft / gives).exists():
            raise ArchiveError(f"{archive} has no {gives}: it is not the official archive")
        for path in draft.iterdir():
            _move(path, folder / path.name)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's; those of gzip and bz2 about damaged content have no number
        raise ArchiveError(
            f"{archive} is damaged ({error}): delete it and download it again"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class _Members:
    """Decides on the members of one archive, one after another."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._room = max(_LARGEST * archive.stat().st_size, _LEAST_ROOM)

    def accept(self, member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        """Return a member as it is to be unpacked, less than Python's own filter lets through."""
        name = PureWindowsPath(member.name)  # parts folders at / and at \
        self._room -= max(member.size, 0)
        if name.anchor:
            problem = "has an absolute name"
        elif ".." in name.parts:
            problem = "leads out of the folder"
        elif len(name.parts) > _DEEPEST:
            problem = f"lies {len(name.parts)} folders deep, more than {_DEEPEST}"
        elif member.issym() or member.islnk():
            problem = f"is a link to {member.linkname}"
        elif not (member.isdir() or member.isreg()):
            problem = "is neither a file nor a folder"
        elif self._room < 0:
            problem = f"makes the contents larger than {_LARGEST} times the archive"
        else:
            plain = member.replace(mode=None, mtime=None, deep=False)  # type: ignore[arg-type]
            return tarfile.data_filter(plain, folder)
        shown = member.name if len(member.name) < 200 else f"{member.name[:80]}..."
        raise ArchiveError(f"{self._archive}: its member {shown} {problem}; nothing was unpacked")


def _move(source: Path, target: Path) -> None:
    """Move a folder as a whole if it is new, or else what is in it."""
    if source.is_dir() and target.is_dir():
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        source.replace(target)
