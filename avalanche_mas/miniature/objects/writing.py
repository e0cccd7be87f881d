"""Write the miniature: all eight datasets, or nothing at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm

from avalanche_mas.miniature.objects import (
    actions,
    aircraft,
    birds,
    cars,
    flowers,
    letters,
    scenes,
    svhn,
)
from avalanche_mas.miniature.objects.archives import write_archives
from avalanche_mas.miniature.objects.plan import Plan

MARKER = "miniature.json"
ARCHIVES = "archives"
_DRAFT = ".draft-"  # how the names of unfinished miniatures begin
_WRITERS: dict[str, Callable[[Path, Plan], None]] = {
    "flowers-102": flowers.write,
    "scenes-67": scenes.write,
    "CUB_200_2011": birds.write,
    "stanford_cars": cars.write,
    "fgvc-aircraft-2013b": aircraft.write,
    "VOCdevkit": actions.write,
    "chars74k": letters.write,
    "svhn": svhn.write,
}
_VERSION = 1  # of the drawings: a folder drawn by another version is drawn again


def miniature(
    root: str | os.PathLike[str],
    *,
    images_per_class: int = 40,
    size: int = 64,
    seed: int = 0,
    archives: bool = False,
    verbose: bool = True,
) -> Path:
    """Write a small drawn copy of the eight datasets, in the layouts of the official files.

    The same arguments give the same bytes. A folder that holds this very miniature is left as it
    is, and another miniature is replaced. The pictures are drawn in a folder of their own, and take
    their places when all of them are done.

    :param root: the folder, which gets one folder for each dataset.
    :param images_per_class: training pictures of each class; half as many, rounded up, are test
        pictures. At least 2, as some datasets halve the training pictures for validation.
    :param size: the height of the pictures, and of the people in VOC's, in pixels. House numbers
        have always 32.
    :param seed: another seed draws other pictures of the same classes.
    :param archives: pack the datasets into ``root/archives`` too, under their official names.
    :param verbose: show a progress bar.
    :return: ``root``.
    :raises ValueError: if an argument is out of its range.
    :raises FileExistsError: if ``root`` holds anything that is not a miniature's.
    """
    plan = Plan(images_per_class, size, seed)
    if images_per_class < 2:
        raise ValueError(f"images_per_class is {images_per_class}: give 2 or more")
    if size < 16:
        raise ValueError(f"size is {size}: give 16 pixels or more")
    if seed < 0:
        raise ValueError(f"seed is {seed}: give 0 or more")
    root = Path(root).expanduser()
    settings = {"images_per_class": images_per_class, "size": size, "seed": seed}
    content = json.dumps(settings | {"archives": archives, "version": _VERSION}, indent=1) + "\n"
    with _only_one(root):
        if _check_free(root) == content:
            return root
        with _draft_in(root) as draft:
            with tqdm(total=_total(plan), unit="image", desc="Drawing", disable=not verbose) as bar:
                for write in _WRITERS.values():
                    write(draft, replace(plan, drawn=bar.update))
            if archives:
                write_archives(draft, draft / ARCHIVES)
            _move(draft, root, content)
    return root


def _total(plan: Plan) -> int:
    """Count the pictures."""
    each = plan.images_per_class + plan.tests_per_class
    kinds = (flowers.FLOWERS, scenes.SCENES, birds.BIRDS, cars.CARS, aircraft.AIRCRAFT)
    classes = sum(len(kind) for kind in kinds) + len(letters.LETTERS) + 10
    extra = len(scenes.SCENES) + letters.DIGITS_EACH * len(letters.DIGITS)
    return each * classes + extra + actions.images_of(plan)


def _check_free(root: Path) -> str | None:
    """Make sure that nothing but a miniature is in ``root``.

    :return: the settings of the miniature that is there, if one is.
    """
    if not root.exists():
        return None
    if not root.is_dir():
        raise FileExistsError(f"{root} is a file: give a folder")
    found = {path.name for path in root.iterdir() if not path.name.startswith(_DRAFT)}
    if not found:
        return None
    if MARKER not in found:
        raise FileExistsError(
            f"{root} is not empty and has no {MARKER}, so it is not a miniature: "
            "give an empty or new folder"
        )
    foreign = sorted(found - {MARKER, ARCHIVES, *_WRITERS})
    if foreign:
        raise FileExistsError(
            f"{root / foreign[0]} is not part of the miniature: move it elsewhere, or give "
            "another folder"
        )
    return (root / MARKER).read_text(encoding="utf-8")


def _only_one(root: Path) -> FileLock:
    """Let other processes of this machine wait that want to draw into the same folder."""
    name = hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"avalanche-mas-miniature-{name}.lock")


@contextmanager
def _draft_in(root: Path) -> Iterator[Path]:
    """Give a new folder within ``root``, and so on the same disk; nothing of it is left."""
    new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=root))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if new and not any(root.iterdir()):
            root.rmdir()


def _move(draft: Path, root: Path, content: str) -> None:
    """Let the folders of a draft take the places of older ones; the marker is whole at the end.

    While it is empty, an interrupted change is known as such: the next call draws again.
    """
    marker = root / MARKER
    marker.write_text("", encoding="utf-8")
    for name in (*_WRITERS, ARCHIVES):
        shutil.rmtree(root / name, ignore_errors=True)
        if (draft / name).exists():
            (draft / name).rename(root / name)
    (draft / MARKER).write_text(content, encoding="utf-8")
    (draft / MARKER).replace(marker)
