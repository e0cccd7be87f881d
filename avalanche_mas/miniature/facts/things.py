"""Vehicles, a tree and the things that people handle: an origin on the ground, x to the right."""

from avalanche_mas.miniature.canvas import Canvas, smooth
from avalanche_mas.miniature.colours import BLACK, BROWN, GREEN, GREY, WHITE, Colour, darker

_PAINTS: tuple[Colour, ...] = ((195, 45, 45), (45, 90, 170), (235, 190, 50), (60, 130, 90))


def draw_car(sheet: Canvas) -> None:
    """Draw a car, 1.2 long."""
    paint = sheet.pick(_PAINTS)
    cabin = [(-0.36, -0.26), (-0.22, -0.46), (0.16, -0.46), (0.34, -0.26)]
    sheet.polygon(cabin, darker(paint, 0.85))
    sheet.polygon([(-0.26, -0.27), (-0.17, -0.41), (0.12, -0.41), (0.24, -0.27)], (190, 220, 235))
    hull = [(-0.6, -0.1), (-0.6, -0.24), (-0.3, -0.29), (0.36, -0.29), (0.6, -0.2), (0.6, -0.1)]
    sheet.polygon(hull, paint)
    for x in (-0.36, 0.36):
        sheet.oval(x, -0.1, 0.12, 0.12, BLACK)
        sheet.oval(x, -0.1, 0.05, 0.05, GREY)


def draw_boat(sheet: Canvas, sail: bool = False) -> None:
    """Draw a rowing boat, or a sailing boat, 1.1 long on a strip of water."""
    hull = [(-0.5, -0.24), (0.56, -0.26), (0.36, 0.0), (-0.36, 0.0)]
    if sail:
        sheet.stroke([(0.0, -0.2), (0.0, -1.15)], 0.04, BROWN)
        sheet.polygon([(0.05, -1.12), (0.48, -0.36), (0.05, -0.32)], sheet.shade(WHITE, 4.0))
        sheet.polygon([(-0.05, -0.98), (-0.38, -0.34), (-0.05, -0.32)], (205, 60, 60))
    else:
        sheet.stroke([(-0.1, -0.3), (-0.62, 0.06)], 0.045, (205, 175, 125))
    sheet.polygon(hull, sheet.pick([(150, 95, 50), (120, 70, 45)]))
    sheet.stroke([(-0.5, -0.24), (0.56, -0.26)], 0.05, (215, 185, 140))
    sheet.box(-0.8, -0.02, 0.85, 0.16, (65, 120, 175))
    for x in (-0.55, -0.05, 0.4):
        sheet.stroke([(x, 0.06), (x + 0.25, 0.06)], 0.03, (175, 210, 235))


def draw_tree(sheet: Canvas) -> None:
    """Draw a tree, 1.5 high."""
    sheet.polygon([(-0.09, 0.0), (-0.05, -0.75), (0.05, -0.75), (0.09, 0.0)], sheet.shade(BROWN))
    leaves = sheet.shade(GREEN)
    for x, y, r in ((-0.25, -0.85, 0.28), (0.25, -0.85, 0.28), (0.0, -1.12, 0.34)):
        sheet.oval(x, y, r, r * 0.85, sheet.shade(leaves, 10.0))


def draw_plane(sheet: Canvas) -> None:
    """Draw a plane around the origin, 1.4 long."""
    body = sheet.shade((225, 228, 232), 6.0)
    paint = sheet.pick(_PAINTS)
    sheet.polygon([(-0.6, -0.02), (-0.76, -0.34), (-0.58, -0.34), (-0.4, -0.06)], paint)
    sheet.polygon(smooth([(-0.68, 0.0), (-0.4, -0.12), (0.5, -0.12), (0.74, 0.0), (0.5, 0.1),
                          (-0.4, 0.1)], 1), body)  # fmt: skip
    sheet.polygon([(0.14, 0.02), (-0.14, 0.02), (-0.34, 0.4), (-0.2, 0.4)], darker(paint, 0.9))
    for x in (-0.28, -0.1, 0.08, 0.26):
        sheet.oval(x, -0.04, 0.04, 0.035, (95, 130, 165))


def draw_cart(sheet: Canvas) -> None:
    """Draw a cart, 0.6 long, whose handle is on the left at hand height."""
    sheet.stroke([(0.08, -0.24), (-0.1, -0.48)], 0.035, GREY)
    sheet.polygon([(0.0, -0.4), (0.6, -0.4), (0.5, -0.16), (0.1, -0.16)], sheet.pick(_PAINTS))
    for x in (0.16, 0.44):
        sheet.oval(x, -0.09, 0.09, 0.09, BLACK)
        sheet.oval(x, -0.09, 0.04, 0.04, GREY)


def draw_ball(sheet: Canvas, x: float, y: float, radius: float, colour: Colour) -> None:
    """Draw a ball of one colour with a light on it."""
    sheet.oval(x, y, radius, radius, darker(colour, 0.75))
    sheet.oval(x - 0.1 * radius, y - 0.12 * radius, 0.85 * radius, 0.85 * radius, colour)


def draw_kite(sheet: Canvas) -> None:
    """Draw a kite up in the sky, and its string from a person's hand."""
    hand = (0.26, -0.61)
    x, y = 0.62, -1.16
    sheet.stroke([hand, (0.45, -0.75), (x, y)], 0.018, WHITE)
    paint = sheet.pick(_PAINTS)
    points = [(x, y - 0.24), (x + 0.17, y), (x, y + 0.26), (x - 0.17, y)]
    sheet.polygon(points, paint)
    sheet.polygon([points[0], points[1], (x, y)], (245, 215, 80))
    sheet.polygon([points[2], points[3], (x, y)], (245, 215, 80))


def draw_umbrella(sheet: Canvas) -> None:
    """Draw an open umbrella above a person's head, and its stick from their hand."""
    sheet.stroke([(0.26, -0.57), (0.12, -1.28)], 0.03, BLACK)
    paint = sheet.pick(_PAINTS)
    dome = [(-0.48, -1.02), (-0.3, -1.27), (-0.02, -1.36), (0.28, -1.27), (0.48, -1.02),
            (0.3, -1.07), (0.14, -1.0), (0.0, -1.07), (-0.16, -1.0), (-0.32, -1.07)]  # fmt: skip
    sheet.polygon(dome, paint)
    sheet.polygon([(-0.02, -1.36), (0.14, -1.0), (0.0, -1.07), (-0.16, -1.0)], darker(paint, 0.75))


def draw_drum(sheet: Canvas) -> None:
    """Draw a drum before a player, with two sticks."""
    paint = sheet.pick(_PAINTS)
    sheet.box(0.16, -0.42, 0.62, -0.06, paint)
    sheet.oval(0.39, -0.06, 0.23, 0.06, paint)
    sheet.oval(0.39, -0.42, 0.23, 0.07, WHITE)
    for x in (0.24, 0.39, 0.54):
        sheet.stroke([(x - 0.07, -0.36), (x, -0.08), (x + 0.07, -0.36)], 0.018, WHITE)
    for end in (0.32, 0.47):
        sheet.stroke([(0.17, -0.62), (end, -0.45)], 0.03, (225, 190, 130))


def draw_leash(sheet: Canvas, hand: tuple[float, float], collar: tuple[float, float]) -> None:
    """Draw a leash from a hand to a collar."""
    sheet.stroke([hand, collar], 0.025, (190, 40, 40))
