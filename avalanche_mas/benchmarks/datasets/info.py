"""What is known of a dataset besides its images: its files, where they come from, its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche_mas.benchmarks.datasets.base import ImageDataset


@dataclass(frozen=True)
class OfficialFile:
    """One file that the authors of a dataset give out: an archive, a list or a table.

    :param name: its name, such as ``102flowers.tgz``.
    :param url: its official address.
    :param folder: the folder under ROOT to put it in, and to unpack it in; ``.`` is ROOT itself.
    :param gives: the folder or file under ROOT that is there afterwards.
    :param md5: its MD5 in hexadecimal, or None if nobody has published one.
    :param sha256: its SHA-256 in hexadecimal, or None.
    :param size: bytes, or None.
    :param alive: whether the official address is known to answer.
    :param mirror: who else has the file, in words. Mirrors have not been verified by us: the
        checksum, where there is one, decides.
    """

    name: str
    url: str
    folder: str
    gives: str
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None
    alive: bool = True
    mirror: str = ""

    @property
    def is_archive(self) -> bool:
        """Whether it has to be unpacked."""
        return self.name.endswith((".tar", ".tar.gz", ".tgz"))

    def where_to_get(self, root: str) -> str:
        """One line for people: the address, and what to do with the file.

        :param root: the ROOT that they put datasets in.
        :return: the line, without its end.
        """
        place = root if self.folder == "." else f"{root}/{self.folder}"
        source = self.url if self.alive else f"{self.url} (dead)"
        source += f", or: {self.mirror}" if self.mirror else ""
        return f"{self.name}: {source}; {'unpack' if self.is_archive else 'put'} it in {place}"


@dataclass(frozen=True)
class DatasetInfo:
    """One of the eight datasets.

    :param key: its short name: ``flowers``, ``scenes``, ...
    :param title: its full name.
    :param loader: the class that reads it.
    :param sizes: the official number of samples of each split.
    :param n_classes: the official number of classes.
    """

    key: str
    title: str
    loader: type[ImageDataset]
    sizes: Mapping[str, int]
    n_classes: int

    @property
    def folder(self) -> str:
        """Its folder under ROOT."""
        return self.loader.folder

    @property
    def files(self) -> tuple[OfficialFile, ...]:
        """The files that it is made of."""
        return self.loader.files
