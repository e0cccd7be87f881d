"""Chars74K, EnglishImg: twelve of its letters, and two digits that are not letters."""

import string
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from avalanche_mas.miniature.canvas import save_picture
from avalanche_mas.miniature.glyphs import contrast, mask, paint, surface
from avalanche_mas.miniature.objects.plan import Plan

# `Sample001` holds 0, `Sample011` A and `Sample037` a.
_ORDER = string.digits + string.ascii_uppercase + string.ascii_lowercase
LETTERS = "ABEGKMRWaegt"
DIGITS = "04"
DIGITS_EACH = 4


def write(folder: Path, plan: Plan) -> None:
    """Write ``chars74k/English/Img/`` with good and bad pictures and their masks.

    There is no official split, so a class has its training and test pictures in one folder; every
    third is a bad one. Digits have few pictures: they are there to be left out.
    """
    root = folder / "chars74k" / "English" / "Img"
    counts: dict[tuple[str, int], int] = {}
    pictures = [(LETTERS[p.label], rng) for p, rng in plan.pictures("letters", len(LETTERS))]
    pictures += [(d, plan.rng("digits", ord(d), k)) for d in DIGITS for k in range(DIGITS_EACH)]
    for at, (letter, rng) in enumerate(pictures):
        sample = _ORDER.index(letter) + 1
        kind = "BadImag" if at % 3 == 2 else "GoodImg"
        counts[kind, sample] = number = counts.get((kind, sample), 0) + 1
        name = Path(f"Sample{sample:03d}") / f"img{sample:03d}-{number:05d}.png"
        picture, shape = draw(letter, rng, plan.size, bad=kind == "BadImag")
        save_picture(root / kind / "Msk" / name, shape)
        save_picture(root / kind / "Bmp" / name, picture)


def draw(
    letter: str, rng: np.random.Generator, size: int, *, bad: bool = False
) -> tuple[Image.Image, Image.Image]:
    """Draw one letter as on a sign, with its neighbours' edges and a line or two.

    :param letter: what to draw.
    :param bad: small, blurred and cluttered.
    :return: the picture and the letter's mask, white where the letter is.
    """
    high = round(size * rng.uniform(0.45, 0.6) if bad else size * rng.uniform(0.65, 1.0))
    wide = round(high * rng.uniform(0.85, 1.2))
    back, front = contrast(rng, 60.0 if bad else 100.0)
    sign = surface(rng, wide, high, back)
    pen = ImageDraw.Draw(sign)
    for _ in range(int(rng.integers(2, 5)) if bad else int(rng.integers(0, 3))):
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        ends = rng.uniform(0, 1, 4) * (wide, high, wide, high)
        pen.line([float(end) for end in ends], fill=colour, width=max(1, high // 20))
    shape = mask(letter, rng, wide, high, fill=float(rng.uniform(0.75, 0.9)))
    picture = paint(sign, shape, front, float(rng.uniform(0.6, 1.1)) if bad else 0.3, rng)
    return picture, shape.point(lambda grey: 255 * (grey > 127))
