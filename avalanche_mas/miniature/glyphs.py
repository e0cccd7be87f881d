"""Letters and digits in real fonts: those that come with matplotlib."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from avalanche_mas.miniature.colours import Colour, as_colour

_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneralBol",
)


def contrast(rng: np.random.Generator, least: float = 80.0) -> tuple[Colour, Colour]:
    """Draw two colours whose brightness differs by ``least`` grey levels or more."""
    while True:
        back, front = rng.uniform(20, 235, (2, 3))
        if abs(back.mean() - front.mean()) >= least:
            return as_colour(back), as_colour(front)


def mask(text: str, rng: np.random.Generator, width: int, height: int, fill: float) -> Image.Image:
    """Draw one character, leant and turned a little, white on black.

    :param text: the character.
    :param width: of the picture, in pixels.
    :param height: likewise.
    :param fill: its height over that of a capital that fills the picture.
    :return: a picture in grey levels, the character in its middle.
    """
    name = _FONTS[int(rng.integers(len(_FONTS)))]
    side = 2 * max(width, height)
    sheet = Image.new("L", (side, side))
    font = _font(name, round(fill * height * 1.3))
    ImageDraw.Draw(sheet).text((side / 2, side / 2), text, fill=255, font=font, anchor="mm")
    turned = sheet.rotate(float(rng.uniform(-9, 9)), Image.Resampling.BILINEAR)
    lean = float(rng.uniform(-0.12, 0.12))
    shear = (1, lean, -lean * side / 2, 0, 1, 0)
    leant = turned.transform((side, side), Image.Transform.AFFINE, shear, Image.Resampling.BILINEAR)
    left, top = (side - width) // 2, (side - height) // 2
    return leant.crop((left, top, left + width, top + height))


def paint(
    base: Image.Image, shape: Image.Image, colour: Colour, blur: float, rng: np.random.Generator
) -> Image.Image:
    """Put a colour onto a picture where ``shape`` is white, blur it and add noise."""
    picture = base.copy()
    picture.paste(colour, mask=shape)
    if blur > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    grain = rng.normal(0.0, 5.0, (*picture.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def surface(rng: np.random.Generator, width: int, height: int, colour: Colour) -> Image.Image:
    """Draw an uneven surface of one colour."""
    grid = np.clip(rng.normal(colour, 12.0, (3, 3, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)


@lru_cache(maxsize=256)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a font of matplotlib's own, so that every machine has the same."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(path, max(size, 6))
