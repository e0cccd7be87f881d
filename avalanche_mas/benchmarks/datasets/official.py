"""The official files of a dataset: where they come from, and reading them.

Whatever is wrong with a file, the error names it and says where to get it.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from avalanche_mas.benchmarks.pictures import read_picture


@dataclass(frozen=True)
class OfficialFile:
    """One file that the authors of a dataset give out: an archive, a list or a table.

    :param url: its official address.
    :param gives: the folder or file under ROOT that is there afterwards.
    :param sha256: its SHA-256 in hexadecimal, or None if only its MD5 is known.
    :param md5: its MD5 in hexadecimal, which counts if there is no SHA-256.
    :param size: its size in bytes, if that is published.
    :param alive: whether the official address is known to answer.
    :param mirror: another address, or who else has the file, in words. We have verified no mirror:
        the checksum, where there is one, decides.
    :param name: its name, such as ``102flowers.tgz``; by default the last part of ``url``.
    :param folder: the folder under ROOT to put it in, and to unpack it in, ``.`` for ROOT itself;
        by default the one that holds what it gives.
    """

    url: str
    gives: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    alive: bool = True
    mirror: str = ""
    name: str = ""
    folder: str = ""

    def __post_init__(self) -> None:
        name = self.name or PurePosixPath(urlsplit(self.url).path).name
        folder = self.folder or str(PurePosixPath(self.gives).parent)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "folder", folder)

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


class OfficialFolder:
    """The folder of one dataset, with its contents as in the official archives.

    :param root: the ROOT that holds one folder for each dataset.
    :param folder: the dataset's folder under ROOT.
    :param files: the official files that its contents come from.
    :raises FileNotFoundError: if the folder, or what one of the files gives, is not there.
    """

    def __init__(self, root: str | Path, folder: str, files: tuple[OfficialFile, ...]) -> None:
        self.root, self.files = Path(root), files
        self.path = self.root / folder
        absent = [file for file in files if not (self.root / file.gives).exists()]
        if absent:
            problem = "does not exist" if not self.path.is_dir() else "is not complete"
            raise FileNotFoundError(
                f"{self.path} {problem}. Missing: {', '.join(file.gives for file in absent)} "
                f"under {self.root}. Get\n{self._sources(absent)}"
            )

    def lines(self, name: str) -> list[str]:
        """The lines of a text file that are not empty, without their line ends.

        :param name: its path in the dataset's folder.
        :raises FileNotFoundError: if it is not there.
        :raises ValueError: if it is not text, or empty.
        """
        try:
            text = self._existing(name).read_text(encoding="utf-8-sig")  # or without a mark
        except UnicodeDecodeError as error:
            raise self.corrupt(name, f"is not a text file ({error})") from error
        found = [line.strip() for line in text.splitlines() if line.strip()]
        if not found:
            raise self.corrupt(name, "is empty")
        return found

    def mat(self, name: str, variable: str) -> Any:
        """A variable of a MATLAB file, with dimensions of size one removed.

        :param name: the file's path in the dataset's folder.
        :param variable: the variable's name.
        :return: an array of at least one dimension.
        :raises FileNotFoundError: if the file is not there.
        :raises ValueError: if it cannot be read, or has no such variable.
        """
        from scipy.io import loadmat

        path = self._existing(name)
        try:
            found = loadmat(path, squeeze_me=True, variable_names=[variable])
        except Exception as error:  # scipy has no common one: OSError, TypeError, zlib.error, ...
            raise self.corrupt(name, f"cannot be read as a MATLAB file ({error})") from error
        if variable not in found:
            raise self.corrupt(name, f"has no variable {variable!r}")
        return np.atleast_1d(found[variable])

    def xml(self, name: str) -> ElementTree.Element:
        """The root of an XML file.

        :param name: its path in the dataset's folder.
        :raises FileNotFoundError: if it is not there.
        :raises ValueError: if it is not XML.
        """
        path = self._existing(name)
        try:
            return ElementTree.parse(path).getroot()
        except ElementTree.ParseError as error:
            raise self.corrupt(name, f"is not valid XML ({error})") from error

    def must_hold(self, images: Iterable[str]) -> None:
        """Checks by directory listings, without opening a file, that all images are there.

        :param images: their paths in the dataset's folder.
        :raises FileNotFoundError: naming the first that is not there, and how many are not.
        """
        wanted = defaultdict(set)
        for image in images:
            folder, _, name = image.rpartition("/")
            wanted[folder].add(name)
        absent = []
        for folder, names in wanted.items():
            place = self.path / folder
            there = set(os.listdir(place)) if place.is_dir() else set()
            absent += [place / name for name in sorted(names - there)]
        if absent:
            total = sum(len(names) for names in wanted.values())
            raise FileNotFoundError(
                f"{absent[0]} is listed, but is not there; of {total} listed images "
                f"{len(absent)} are missing. {self._remedy(absent[0])}"
            )

    def image(self, name: str) -> Image.Image:
        """Reads an image in full, as RGB.

        :param name: its path in the dataset's folder.
        :raises FileNotFoundError: if it is not there.
        :raises ValueError: if it cannot be read: truncated, or not an image.
        """
        path = self._existing(name)
        try:
            return read_picture(path)
        except ValueError as error:
            raise ValueError(f"{error}: replace it. {self._remedy(path)}") from error

    def corrupt(self, name: str, what: str) -> ValueError:
        """The error for a file that is there, but wrong.

        :param name: its path in the dataset's folder; "" for the folder itself.
        :param what: what is wrong, as the rest of a sentence that begins with the path.
        """
        path = self.path / name
        return ValueError(f"{path} {what}: replace it. {self._remedy(path)}")

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there. {self._remedy(path)}")
        return path

    def _remedy(self, path: Path) -> str:
        sources = [file for file in self.files if path.is_relative_to(self.root / file.gives)]
        return f"It comes from\n{self._sources(sources or self.files)}"

    def _sources(self, files: Iterable[OfficialFile]) -> str:
        return "\n".join(f"- {file.where_to_get(str(self.root))}" for file in files)
