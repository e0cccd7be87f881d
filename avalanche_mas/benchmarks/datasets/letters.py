"""Chars74K, letters only: characters on signs and in shop windows."""

import os
import string
from typing import ClassVar

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
        classes: list[str] = []
        images: list[str] = []
        targets: list[int] = []
        for number, letter in enumerate(_LETTERS, start=_FIRST):
            found = self._images(number)
            if found is not None:
                images += found
                targets += [len(classes)] * len(found)
                classes.append(letter)
        total = sum(self.sizes.values())
        chosen = list(range(len(images)))
        if len(images) > total:
            chosen, _ = stratified(targets, total, _SEED)
        n_test = round(len(chosen) * self.sizes["test"] / total)
        try:
            test, train = stratified([targets[i] for i in chosen], n_test, _SEED)
        except ValueError as error:
            raise self.official.corrupt(
                "", f"has too few letters for a test set ({error})"
            ) from error
        kept = [chosen[i] for i in (train if self.split == "train" else test)]
        return Listing(classes, [images[i] for i in kept], [targets[i] for i in kept])

    def _images(self, number: int) -> list[str] | None:
        """List the images of a character in a fixed order; None if it has no folder."""
        folders = [f"English/Img/{quality}/Bmp/Sample{number:03d}" for quality in _QUALITIES]
        there = [folder for folder in folders if (self.official.path / folder).is_dir()]
        found = [
            f"{folder}/{name}"
            for folder in there
            for name in sorted(os.listdir(self.official.path / folder))
            if name.lower().endswith(".png")
        ]
        if there and not found:
            raise self.official.corrupt(there[0], "holds no .png images")
        return found if there else None
