"""Colours to draw with."""

Colour = tuple[int, int, int]  # red, green and blue, from 0 to 255

WHITE: Colour = (245, 245, 242)
BLACK: Colour = (28, 28, 30)
GREY: Colour = (128, 130, 132)
GREEN: Colour = (72, 128, 60)
BROWN: Colour = (110, 76, 48)
SKY: Colour = (150, 190, 225)


def darker(colour: Colour, share: float = 0.7) -> Colour:
    """Return ``share`` of a colour's light."""
    r, g, b = (int(channel * share) for channel in colour)
    return r, g, b
