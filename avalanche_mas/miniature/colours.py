"""Colours to draw with."""

from collections.abc import Iterable

Colour = tuple[int, int, int]  # red, green and blue, from 0 to 255

WHITE: Colour = (245, 245, 242)
BLACK: Colour = (28, 28, 30)
GREY: Colour = (128, 130, 132)
GREEN: Colour = (72, 128, 60)
BROWN: Colour = (110, 76, 48)
SKY: Colour = (150, 190, 225)


def as_colour(values: Iterable[float]) -> Colour:
    """Round red, green and blue down to whole levels."""
    r, g, b = map(int, values)
    return r, g, b


def darker(colour: Colour, share: float = 0.7) -> Colour:
    """Return ``share`` of a colour's light."""
    return as_colour(channel * share for channel in colour)
