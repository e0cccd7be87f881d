"""SVHN, cropped digits: house numbers of 32 × 32 pixels, the digit of interest in the middle."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from avalanche_mas.miniature.glyphs import contrast, mask, paint, surface
from avalanche_mas.miniature.objects.matlab import save_mat
from avalanche_mas.miniature.objects.plan import Plan

_SIDE = 32


def write(folder: Path, plan: Plan) -> None:
    """Write ``svhn/train_32x32.mat`` and ``test_32x32.mat``, in which 10 stands for the digit 0."""
    for train, split in ((True, "train"), (False, "test")):
        images, labels = [], []
        for picture, rng in plan.shuffled("svhn", 10):
            if picture.train == train:
                images.append(np.asarray(draw(picture.label, rng)))
                labels.append(picture.label or 10)
        x = np.stack(images, axis=-1)  # (32, 32, 3, N)
        y = np.array(labels, dtype=np.uint8)[:, None]
        save_mat(folder / "svhn" / f"{split}_32x32.mat", {"X": x, "y": y})


def draw(digit: int, rng: np.random.Generator) -> Image.Image:
    """Draw a digit between parts of its neighbours."""
    back, front = contrast(rng, 70.0)
    fill = float(rng.uniform(0.75, 0.95))
    shape = mask(str(digit), rng, _SIDE, _SIDE, fill)
    apart = round(rng.uniform(0.62, 0.75) * fill * _SIDE)
    for side in (-apart, apart):
        if rng.random() < 0.6:
            other = mask(str(int(rng.integers(10))), rng, 3 * _SIDE, _SIDE, fill)
            moved = other.crop((_SIDE - side, 0, 2 * _SIDE - side, _SIDE))
            shape = ImageChops.lighter(shape, moved)
    wall = surface(rng, _SIDE, _SIDE, back)
    return paint(wall, shape, front, float(rng.uniform(0.3, 0.9)), rng)
