"""Handwritten digits of scikit-learn as PNG files, so that the examples download nothing."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits


def draw(folder):
    """Write ``folder/train/<digit>/*.png``, and a quarter of them into ``folder/test``."""
    digits = load_digits()
    for i, (pixels, digit) in enumerate(zip(digits.images[:900], digits.target, strict=False)):
        place = Path(folder, "test" if i % 4 == 0 else "train", str(digit))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8")).resize((16, 16)).save(place / f"{i}.png")
