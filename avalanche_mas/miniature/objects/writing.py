"""Write the miniature of the eight datasets."""

import os
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

import avalanche_mas.miniature.objects.actions as actions
import avalanche_mas.miniature.objects.aircraft as aircraft
import avalanche_mas.miniature.objects.birds as birds
import avalanche_mas.miniature.objects.cars as cars
import avalanche_mas.miniature.objects.flowers as flowers
import avalanche_mas.miniature.objects.letters as letters
import avalanche_mas.miniature.objects.scenes as scenes
import avalanche_mas.miniature.objects.svhn as svhn
from avalanche_mas.miniature.folder import fill
from avalanche_mas.miniature.objects.archives import write_archives
from avalanche_mas.miniature.objects.plan import Plan

MARKER = "miniature.json"
ARCHIVES = "archives"
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
_LEAST = {"images_per_class": 2, "size": 16, "seed": 0}
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
    settings = {"images_per_class": images_per_class, "size": size, "seed": seed}
    settings |= {"archives": archives, "version": _VERSION}
    plan = Plan(images_per_class, size, seed)

    def draw(folder: Path) -> None:
        for write in tqdm(_WRITERS.values(), "Drawing", unit="dataset", disable=not verbose):
            write(folder, plan)
        if archives:
            write_archives(folder, folder / ARCHIVES)

    return fill(root, MARKER, (*_WRITERS, ARCHIVES), settings, _LEAST, draw)
