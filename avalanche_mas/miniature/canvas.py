"""A sheet to draw on: shapes in units of the picture, anti-aliased, with a camera's noise."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from avalanche_mas.miniature.colours import SKY, Colour, as_colour

Floats = NDArray[np.float64]
Point = tuple[float, float]
Box = tuple[int, int, int, int]  # the first and the last pixels in it: left, top, right, bottom

_FINER = 3  # shapes are drawn on a sheet so many times as fine, then averaged down
_QUALITY = 88  # of JPEG
_NOISE = 5.0  # of a camera, in grey levels
_ROUND = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)


@dataclass
class Canvas:
    """A sheet one unit high and ``aspect`` units wide; x runs right and y down.

    :param rng: draws the unevenness of the ground, and whatever a drawing leaves to chance.
    :param size: the height in pixels.
    :param aspect: width over height.
    :param ground: the colour that the sheet starts with.
    :param uneven: how far that colour wanders over the sheet, in grey levels.
    """

    rng: np.random.Generator
    size: int
    aspect: float = 1.0
    ground: Colour = SKY
    uneven: float = 14.0
    _frames: list[Floats] = field(default_factory=list, init=False)
    _touched: list[Floats] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        width = round(self.size * self.aspect)
        light = self.rng.normal(0.0, self.uneven, (4, 5, 1))
        grid = self.ground + light + self.rng.normal(0.0, self.uneven / 3, (4, 5, 3))
        small = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
        fine = (width * _FINER, self.size * _FINER)
        self.image = small.resize(fine, Image.Resampling.BICUBIC)
        self._pen = ImageDraw.Draw(self.image)
        unit = float(self.size * _FINER)
        self._frames.append(np.array([[unit, 0.0, 0.0], [0.0, unit, 0.0]]))

    @contextmanager
    def placed(
        self,
        x: float = 0.0,
        y: float = 0.0,
        *,
        scale: float = 1.0,
        turn: float = 0.0,
        squash: float = 1.0,
        flip: bool = False,
    ) -> Iterator[None]:
        """Draw in moved coordinates.

        :param x: where their origin lies, in the present coordinates.
        :param y: likewise.
        :param scale: the length of their unit.
        :param turn: radians, clockwise as seen.
        :param squash: makes heights so many times what they were.
        :param flip: mirror left and right.
        """
        cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
        moved = np.array([[-cos if flip else cos, -sin * squash, x], [0, 0, y], [0, 0, 1]])
        moved[1, :2] = (-sin if flip else sin), cos * squash
        self._frames.append(self._frames[-1] @ moved)
        try:
            yield
        finally:
            self._frames.pop()

    def turned(self, angles: Iterable[float]) -> Iterator[None]:
        """Draw again and again, in coordinates turned by each of ``angles``, see :meth:`placed`."""
        for angle in angles:
            with self.placed(turn=float(angle)):
                yield

    def polygon(self, points: ArrayLike, fill: Colour) -> None:
        """Fill the surface within a closed line through ``points`` (n, 2)."""
        self._pen.polygon(self._on_sheet(points), fill=fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """Fill an ellipse around (x, y), with half axes ``rx`` and ``ry``."""
        circle = np.stack([x + rx * np.cos(_ROUND), y + ry * np.sin(_ROUND)], axis=1)
        self.polygon(circle, fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def stroke(self, points: ArrayLike, width: float, fill: Colour) -> None:
        """Draw a line through ``points`` (n, 2), ``width`` thick, with round ends."""
        frame = self._frames[-1]
        pixels = width * float(np.hypot(frame[0, 0], frame[1, 0]))
        line = self._on_sheet(points, margin=pixels / 2)
        self._pen.line(line, fill=fill, width=max(1, round(pixels)), joint="curve")
        for x, y in (line[0], line[-1]):
            r = pixels / 2
            self._pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    @contextmanager
    def watched(self) -> Iterator[list[Box]]:
        """Find the tight box, in pixels of the picture, around what is drawn meanwhile."""
        before, self._touched = self._touched, []
        boxes: list[Box] = []
        yield boxes
        touched = np.concatenate(self._touched) / _FINER
        last = np.array(self.image.size) // _FINER - 1
        low = np.clip(np.floor(touched.min(axis=0)), 0, last)
        high = np.clip(np.ceil(touched.max(axis=0)), 0, last)
        boxes.append((int(low[0]), int(low[1]), int(high[0]), int(high[1])))
        self._touched = [*before, *self._touched]

    def photograph(self, grey: float = 0.0) -> Image.Image:
        """Average the sheet down to a picture with a light, a contrast and noise of its own.

        :param grey: the probability that it is in grey levels.
        """
        small = np.asarray(self.image.reduce(_FINER), dtype=np.float32)
        contrast, light = self.rng.uniform(0.85, 1.1), self.rng.uniform(-15.0, 15.0)
        grain = self.rng.standard_normal(small.shape, dtype=np.float32) * np.float32(_NOISE)
        seen = (small - 128.0) * contrast + 128.0 + light + grain
        image = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
        return image.convert("L") if grey and self.chance(grey) else image

    def shade(self, colour: Colour, spread: float = 12.0) -> Colour:
        """Draw a colour close to ``colour``; lightness varies more than hue."""
        light = self.rng.normal(0.0, spread)
        return as_colour(np.clip(self.rng.normal(colour, spread / 2) + light, 0, 255))

    def chance(self, probability: float = 0.5) -> bool:
        """Toss a coin."""
        return bool(self.rng.random() < probability)

    def pick(self, colours: Sequence[Colour]) -> Colour:
        """Draw one of ``colours``, and change it a little."""
        return self.shade(colours[int(self.rng.integers(len(colours)))])

    def around(self, value: float, spread: float) -> float:
        """Draw a number from a uniform distribution on ``value ± spread``."""
        return float(self.rng.uniform(value - spread, value + spread))

    def _on_sheet(self, points: ArrayLike, margin: float = 0.0) -> list[tuple[float, float]]:
        """Take points from the present coordinates to those of the sheet; remember their extent."""
        frame = self._frames[-1]
        there = np.asarray(points, dtype=np.float64) @ frame[:, :2].T + frame[:, 2]
        self._touched += [there - margin, there + margin]
        return [(float(x), float(y)) for x, y in there]


Drawing = Callable[[Canvas], None]


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture in the format that its suffix names; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=_QUALITY)


def smooth(points: ArrayLike, rounds: int = 2) -> Floats:
    """Cut the corners of a closed line (Chaikin's algorithm), so that it looks curved."""
    line = np.asarray(points, dtype=np.float64)
    for _ in range(rounds):
        following = np.roll(line, -1, axis=0)
        cut = np.stack([0.75 * line + 0.25 * following, 0.25 * line + 0.75 * following], axis=1)
        line = cut.reshape(-1, 2)
    return line
