"""Files of pictures → RGB."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

_SWITCH = threading.Lock()  # Pillow has one switch for the whole process


def read_picture(path: Path, *, truncated: bool = False) -> Image.Image:
    """Reads a picture in full, as RGB of 8 bits.

    Greys of 16 bits and of floating-point numbers from 0 to 1 keep their brightness. Pillow's own
    conversion cuts them off at 255 or rounds them to 0.

    :param path: the file.
    :param truncated: read a file that ends too early too; what is missing is grey.
    :raises ValueError: if it cannot be read: truncated, not a picture, or of an unknown range.
    """
    try:
        with Image.open(path) as image:
            if truncated:
                _load_what_is_there(image)
            return _rgb(image)
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, ...
        raise ValueError(f"{path} cannot be read as an image ({error})") from error


def _load_what_is_there(image: ImageFile.ImageFile) -> None:
    with _SWITCH:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def _rgb(image: Image.Image) -> Image.Image:
    white = {"F": 1, "I": 65535}.get(image.mode.partition(";")[0])
    if white is None:
        return image.convert("RGB")
    values = np.asarray(image, dtype=np.float64)
    if not (values.min() >= 0 and values.max() <= white):  # nor NaN
        raise ValueError(
            f"its greys go from {values.min():g} to {values.max():g} instead of 0 to {white}: "
            "save it with 8 bits"
        )
    return Image.fromarray(np.round(values * (255 / white)).astype(np.uint8)).convert("RGB")
