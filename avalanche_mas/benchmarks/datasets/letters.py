"""Chars74K, letters only: characters on signs and in shop windows."""

import os
import string
from typing import ClassVar

import numpy as np

from avalanche_mas.benchmarks.datasets.base import ImageDataset, Listing
from avalanche_mas.benchmarks.datasets.official import OfficialFile
from avalanche_mas.benchmarks.stratified import stratified

_QUALITIES = ("BadImag", "GoodImg")  # their official names
_LETTERS = string.ascii_uppercase + string.ascii_lowercase
_FIRST = 11  # Sample001 to Sample010 are digits, Sample011 is A, Sample037 is a
_SEED = 0


class Letters(ImageDataset):
    """Letters A-Z and a-z of Chars74K's natural images (de Campos, Babu and Varma, VISAPP 2009).

    There is no official split of the letters alone, and the paper's is not published. Ours takes
    the colour images of ``GoodImg`` and ``BadImag``, 11,618 letters, in the order of class, folder
    and name. It draws 8,000 of them and then 1,150 of those for ``test``, both with
    :func:`~avalanche_mas.benchmarks.stratified.stratified` and seed 0; the remaining 6,850 are
    ``train``. The three numbers are those reported for this task by later work; the images are our
    own choice. Where there are fewer than 8,000 images all are used, with the same share for
    ``test``.

    Letters without a folder are left out. The official archive has all 52.
    """

    key = "letters"
    title = "Chars74K letters"
    # Samples of our selection, as many as are reported in the literature.
    sizes: ClassVar = {"train": 6850, "test": 1150}
    n_classes = len(_LETTERS)
    folder = "chars74k"
    files = (
        OfficialFile(
            name="EnglishImg.tgz",
            url="https://drive.google.com/uc?id=1VNMJEvx9UJwzVi7IaNF2QfbMbAD90krX",
            folder="chars74k",
            gives="chars74k/English/Img",
            md5="85d157e0c58f998e1cda8def62bcda0d",
            mirror="follow EnglishImg.tgz on https://teodecampos.github.io/chars74k/",
        ),
    )

    def _listing(self) -> Listing:
        by_letter = {
            letter: found
            for number, letter in enumerate(_LETTERS, start=_FIRST)
            if (found := self._images(number))
        }
        images = [image for found in by_letter.values() for image in found]
        targets = np.repeat(np.arange(len(by_letter)), [len(f) for f in by_letter.values()])
        total = sum(self.sizes.values())
        chosen = np.arange(len(images))
        if len(images) > total:
            chosen = np.array(stratified(targets.tolist(), total, _SEED)[0])
        n_test = round(len(chosen) * self.sizes["test"] / total)
        try:
            test, train = stratified(targets[chosen].tolist(), n_test, _SEED)
        except ValueError as error:
            what = f"has too few letters for a test set ({error})"
            raise self.official.corrupt("", what) from error
        kept = chosen[train if self.split == "train" else test]
        return Listing(list(by_letter), [images[i] for i in kept], targets[kept].tolist())

    def _images(self, number: int) -> list[str]:
        """List the images of a character in a fixed order; none if it has no folder."""
        folders = [f"English/Img/{quality}/Bmp/Sample{number:03d}" for quality in _QUALITIES]
        there = [folder for folder in folders if (self.official.path / folder).is_dir()]
        found = [
            f"{folder}/{name}"
            for folder in there
            for name in sorted(os.listdir(self.official.path / folder))
            if name.lower().endswith(".png") and not name.startswith(".")  # as macOS adds
        ]
        if there and not found:
            raise self.official.corrupt(there[0], "holds no .png images")
        return found
