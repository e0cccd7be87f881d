"""Animals from the side, looking right: an origin on the ground, and a unit about their height."""

from dataclasses import dataclass

from avalanche_mas.miniature.canvas import Canvas, Point, smooth
from avalanche_mas.miniature.colours import BLACK, WHITE, Colour, darker


@dataclass(frozen=True)
class Animal:
    """What tells animals with four legs apart.

    :param coats: their colours.
    :param length: half the length of the body.
    :param girth: half its height.
    :param legs: how long they are.
    :param neck: how far the head stands off, and how high.
    :param snout: the length of the head.
    :param ears: ``"pointed"``, ``"hanging"`` or ``"horns"``.
    :param tail: where it ends, from where it starts.
    """

    coats: tuple[Colour, ...]
    length: float
    girth: float
    legs: float
    neck: Point
    snout: float
    ears: str
    tail: Point


ANIMALS = {
    "dog": Animal(
        ((150, 95, 50), (200, 160, 105), (70, 50, 40)), 0.42, 0.15, 0.4, (0.12, 0.22), 0.22,
        "hanging", (-0.2, -0.28),
    ),
    "cat": Animal(
        ((225, 140, 60), (60, 60, 65), (165, 165, 170)), 0.34, 0.14, 0.28, (0.06, 0.18), 0.1,
        "pointed", (-0.22, -0.5),
    ),
    "cow": Animal(
        ((240, 238, 232),), 0.6, 0.27, 0.38, (0.16, 0.12), 0.26, "horns", (-0.12, 0.4),
    ),
    "horse": Animal(
        ((125, 75, 40), (85, 55, 40), (55, 45, 42)), 0.52, 0.18, 0.52, (0.26, 0.45), 0.32,
        "pointed", (-0.2, 0.42),
    ),
    "sheep": Animal(
        ((238, 234, 222),), 0.4, 0.25, 0.26, (0.1, 0.08), 0.15, "hanging", (-0.06, 0.1),
    ),
}  # fmt: skip

# Where the feet of the four legs are, from the hips, as shares of a leg's length.
_FEET: dict[str, tuple[Point, ...]] = {
    "standing": ((-0.08, 1.0), (0.1, 1.0), (-0.1, 1.0), (0.08, 1.0)),
    "running": ((-0.75, 0.6), (0.3, 0.75), (-0.25, 0.7), (0.8, 0.55)),
    "jumping": ((-0.85, 0.35), (-0.6, 0.5), (0.6, 0.1), (0.85, -0.1)),
}
_DARK: Colour = (60, 52, 48)


def draw_animal(sheet: Canvas, name: str, pose: str = "standing") -> None:
    """Draw an animal with four legs.

    :param name: a key of ``ANIMALS``.
    :param pose: ``"standing"``, ``"running"``, ``"jumping"``, ``"eating"`` or ``"sleeping"``.
    """
    animal, coat = ANIMALS[name], sheet.pick(ANIMALS[name].coats)
    if pose == "sleeping":
        _asleep(sheet, name, animal, coat)
        return
    lift = 0.3 if pose == "jumping" else 0.0
    with sheet.placed(0.0, -animal.legs - lift, turn=-0.3 if pose == "jumping" else 0.0):
        _tail(sheet, name, animal, coat)
        feet = _FEET.get(pose, _FEET["standing"])
        for at, (dx, dy), near in zip((-0.8, -0.7, 0.7, 0.8), feet, (0, 1, 0, 1), strict=True):
            x, y = at * animal.length, -0.3 * animal.girth
            foot = (x + dx * animal.legs, y + dy * animal.legs + 0.3 * animal.girth)
            knee = ((x + foot[0]) / 2 + 0.04, (y + foot[1]) / 2)
            sheet.stroke([(x, y), knee, foot], 0.085, coat if near else darker(coat, 0.75))
        _body(sheet, name, animal, coat)
        _head(sheet, name, animal, coat, eating=pose == "eating")


def _body(sheet: Canvas, name: str, animal: Animal, coat: Colour) -> None:
    y = -0.75 * animal.girth
    sheet.oval(0.0, y, animal.length, animal.girth, coat)
    if name == "cow":
        for x, up, r in ((-0.3, -0.05, 0.15), (0.12, 0.04, 0.13), (0.38, -0.1, 0.1)):
            sheet.oval(x, y + up, r, r * 0.8, _DARK)
    if name == "sheep":
        for step in range(9):
            x = -0.36 + 0.09 * step
            for up in (-0.18, 0.02, 0.16):
                sheet.oval(x, y + up, 0.07, 0.07, sheet.shade(coat, 8.0))


def _head(sheet: Canvas, name: str, animal: Animal, coat: Colour, eating: bool) -> None:
    start = (0.8 * animal.length, -0.9 * animal.girth)
    x, y = animal.neck
    face = _DARK if name == "sheep" else coat
    head = (start[0] + x, start[1] - y)
    if eating:
        head = (start[0] + x + 0.12, animal.legs - 0.14)
    sheet.stroke([start, head], 0.2 if name in ("cow", "horse") else 0.15, coat)
    with sheet.placed(*head, turn=0.9 if eating else 0.25):
        sheet.oval(0.3 * animal.snout, 0.0, animal.snout * 0.75, 0.11, face)
        sheet.oval(-0.02, -0.01, 0.12, 0.12, face)
        if name == "horse":
            sheet.stroke([(-0.1, -0.1), (-0.22, 0.2)], 0.09, darker(coat, 0.45))
        ear = darker(face, 0.6) if name != "sheep" else BLACK
        if animal.ears == "pointed":
            for at in (-0.1, 0.04):
                sheet.polygon([(at - 0.05, -0.07), (at, -0.22), (at + 0.06, -0.08)], ear)
        elif animal.ears == "hanging":
            sheet.oval(-0.1, 0.04, 0.05, 0.13, ear)
        else:
            for at in (-0.1, 0.05):
                sheet.stroke([(at, -0.1), (at + 0.05, -0.22)], 0.035, (205, 195, 165))
            sheet.oval(animal.snout * 0.85, 0.03, 0.06, 0.09, (225, 165, 160))
        sheet.oval(0.06, -0.04, 0.024, 0.024, WHITE if name == "sheep" else BLACK)


def _tail(sheet: Canvas, name: str, animal: Animal, coat: Colour) -> None:
    x, y = -0.92 * animal.length, -0.9 * animal.girth
    dx, dy = animal.tail
    hair = darker(coat, 0.45) if name == "horse" else darker(coat, 0.85)
    sheet.stroke([(x, y), (x + 0.7 * dx, y + 0.3 * dy), (x + dx, y + dy)], 0.07, hair)


def _asleep(sheet: Canvas, name: str, animal: Animal, coat: Colour) -> None:
    """Lie on the ground, curled up, with shut eyes and letters z above."""
    long = animal.length
    sheet.oval(0.0, -0.8 * animal.girth, long, animal.girth * 0.9, coat)
    if name == "cow":
        for x, r in ((-0.25, 0.14), (0.2, 0.12)):
            sheet.oval(x, -0.9 * animal.girth, r, r * 0.7, _DARK)
    sheet.stroke([(-long, -0.1), (-0.4 * long, -0.04), (0.2 * long, -0.04)], 0.07, darker(coat))
    x = long * 0.95
    sheet.oval(x, -0.12, 0.16, 0.12, coat)
    ear = darker(coat, 0.6)
    if animal.ears == "pointed":
        sheet.polygon([(x - 0.12, -0.18), (x - 0.08, -0.32), (x, -0.2)], ear)
    else:
        sheet.oval(x - 0.1, -0.12, 0.05, 0.11, ear)
    sheet.stroke([(x + 0.02, -0.13), (x + 0.09, -0.13)], 0.025, BLACK)
    for step, big in enumerate((0.07, 0.1, 0.13)):
        left, top = 0.1 + 0.16 * step, -0.45 - 0.2 * step - animal.girth
        line = [(left, top), (left + big, top), (left, top + big), (left + big, top + big)]
        sheet.stroke(line, 0.028, WHITE)


def draw_bird(sheet: Canvas, pose: str = "standing") -> None:
    """Draw a bird that stands, or with ``pose="flying"`` spreads its wings around the origin."""
    coat = sheet.pick([(190, 60, 50), (60, 100, 180), (230, 190, 60)])
    if pose == "flying":
        beat = sheet.around(0.0, 0.15)
        for side in (-1, 1):
            tip = (side * 0.65, -0.4 - beat * side)
            wing = [(0.0, -0.06), (side * 0.3, -0.42), tip, (side * 0.25, 0.02)]
            sheet.polygon(smooth(wing, 1), darker(coat, 0.8))
    else:
        for x in (-0.04, 0.06):
            sheet.stroke([(x, -0.25), (x, 0.0)], 0.03, (200, 130, 40))
    with sheet.placed(0.0, 0.0 if pose == "flying" else -0.38):
        sheet.polygon([(-0.2, -0.04), (-0.5, 0.1), (-0.44, -0.1)], darker(coat, 0.7))
        sheet.oval(0.0, 0.0, 0.28, 0.17, coat)
        sheet.oval(0.24, -0.14, 0.12, 0.12, coat)
        sheet.polygon([(0.33, -0.18), (0.5, -0.12), (0.33, -0.09)], (235, 160, 40))
        sheet.oval(0.27, -0.17, 0.025, 0.025, BLACK)
        if pose != "flying":
            sheet.oval(-0.05, 0.0, 0.17, 0.09, darker(coat, 0.75))


def draw_duck(sheet: Canvas) -> None:
    """Draw a duck that swims, the origin on the water."""
    sheet.oval(0.0, -0.12, 0.4, 0.2, sheet.shade((235, 228, 205)))
    sheet.polygon([(-0.34, -0.2), (-0.56, -0.38), (-0.2, -0.26)], (225, 215, 190))
    sheet.stroke([(0.28, -0.2), (0.32, -0.45)], 0.15, (40, 110, 70))
    sheet.oval(0.34, -0.5, 0.14, 0.13, (40, 110, 70))
    sheet.polygon([(0.44, -0.54), (0.66, -0.46), (0.44, -0.42)], (240, 160, 40))
    sheet.oval(0.38, -0.54, 0.028, 0.028, BLACK)
    sheet.box(-0.7, 0.0, 0.75, 0.16, (70, 125, 175))
    for x in (-0.5, -0.1, 0.3):
        sheet.stroke([(x, 0.03), (x + 0.25, 0.03)], 0.03, (170, 205, 230))


def draw_fish(sheet: Canvas) -> None:
    """Draw a fish around the origin."""
    scales = sheet.pick([(240, 130, 40), (220, 70, 70), (245, 210, 70)])
    sheet.polygon([(-0.32, 0.0), (-0.66, -0.24), (-0.58, 0.0), (-0.66, 0.24)], darker(scales, 0.85))
    sheet.polygon([(-0.12, -0.2), (0.1, -0.42), (0.2, -0.2)], darker(scales, 0.85))
    sheet.oval(0.0, 0.0, 0.46, 0.25, scales)
    sheet.stroke([(0.1, -0.2), (0.1, 0.2)], 0.05, WHITE)
    sheet.oval(0.28, -0.07, 0.06, 0.06, WHITE)
    sheet.oval(0.3, -0.07, 0.03, 0.03, BLACK)
    sheet.stroke([(0.34, 0.1), (0.44, 0.06)], 0.025, darker(scales, 0.5))
