"""Fill a folder with drawn files: all of them, or nothing at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_DRAFT = ".draft-"  # how the names of unfinished miniatures begin
_LOCK = ".lock"


def fill(
    root: str | os.PathLike[str],
    marker: str,
    names: Collection[str],
    settings: Mapping[str, int],
    least: Mapping[str, int],
    draw: Callable[[Path], None],
) -> Path:
    """Draw a miniature into a folder, unless the folder holds this very one.

    It is drawn in a folder of its own within ``root``, and takes the place of another miniature
    when all of it is done.

    :param root: the folder.
    :param marker: the name of the file with the settings, by which a miniature is known.
    :param names: the folders and files that a miniature may have in ``root``.
    :param settings: all that the drawings depend on.
    :param least: the least that some of them may be.
    :param draw: draws the miniature into a folder.
    :return: ``root``.
    :raises ValueError: if one of the settings is too small.
    :raises FileExistsError: if ``root`` holds anything that is not a miniature's.
    """
    for name, value in least.items():
        if settings[name] < value:
            raise ValueError(f"{name} is {settings[name]}: give {value} or more")
    root = Path(root).expanduser()
    content = json.dumps(settings, indent=1) + "\n"
    if _settings_of(root, marker, names) == content:
        return root  # also where somebody else drew it, and it may only be read
    with _locked(root):
        for killed in root.glob(f"{_DRAFT}*"):  # no other process draws now
            shutil.rmtree(killed, ignore_errors=True)
        if _settings_of(root, marker, names) != content:
            with _draft_in(root) as draft:
                draw(draft)
                (draft / marker).write_text(content, encoding="utf-8")
                _move(draft, root, marker, names)
    return root


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, a line for each of ``lines``; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _settings_of(root: Path, marker: str, names: Collection[str]) -> str | None:
    """Read the settings of the miniature in ``root``, if one is there, and nothing else is."""
    if not root.exists():
        return None
    if not root.is_dir():
        raise FileExistsError(f"{root} is a file: give a folder")
    found = {path.name for path in root.iterdir() if not path.name.startswith((_DRAFT, _LOCK))}
    if not found:
        return None
    if marker not in found:
        raise FileExistsError(
            f"{root} is not empty and has no {marker}, so it is not a miniature: "
            "give an empty or new folder"
        )
    foreign = sorted(found - {marker, *names})
    if foreign:
        raise FileExistsError(
            f"{root / foreign[0]} is not part of the miniature: move it elsewhere, or give "
            "another folder"
        )
    return (root / marker).read_text(encoding="utf-8")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Makes the folder, and lets one process at a time draw into it, whatever path it came by."""
    new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / _LOCK, mode=0o666):  # other users' too
            yield
    finally:
        if new and {path.name for path in root.iterdir()} <= {_LOCK}:
            shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _draft_in(root: Path) -> Iterator[Path]:
    """Give a new folder within ``root``, and so on the same disk; nothing of it is left."""
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=root))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _move(draft: Path, root: Path, marker: str, names: Collection[str]) -> None:
    """Let what is in a draft take the places of older files; the marker is whole at the end.

    While it is empty, an interrupted change is known as such: the next call draws again.
    """
    (root / marker).write_text("", encoding="utf-8")
    for name in names:
        shutil.rmtree(root / name, ignore_errors=True)
        if (draft / name).exists():
            (draft / name).replace(root / name)
    (draft / marker).replace(root / marker)
