"""Caltech-UCSD Birds-200-2011: eight species, seen from the side."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avalanche_mas.miniature.canvas import Box, Canvas, save_picture, smooth
from avalanche_mas.miniature.colours import BLACK, BROWN, GREEN, GREY, SKY, WHITE, Colour, darker
from avalanche_mas.miniature.folder import write_lines
from avalanche_mas.miniature.objects.plan import Plan


@dataclass(frozen=True)
class Bird:
    """What tells a species from others. Lengths are in lengths of the body."""

    back: Colour
    belly: Colour
    head: Colour
    wing: Colour
    beak: Colour
    beak_long: float = 0.2
    beak_deep: float = 0.1
    neck: float = 0.0
    crest: float = 0.0
    tail: float = 0.5
    plump: float = 0.3
    face: Colour | None = None
    collar: Colour | None = None
    cap: Colour | None = None
    hovers: bool = False
    swims: bool = False


_ORANGE: Colour = (240, 130, 30)
_RED: Colour = (200, 35, 35)
_BLUE: Colour = (60, 105, 195)
_YELLOW: Colour = (240, 205, 50)
_DUSK: Colour = (120, 105, 95)

# In the order of their class numbers, which count from 1 here.
BIRDS: dict[str, Bird] = {
    "American_Crow": Bird(BLACK, BLACK, BLACK, (15, 15, 22), BLACK, 0.28, 0.12),
    "American_Goldfinch": Bird(
        _YELLOW, _YELLOW, _YELLOW, BLACK, (235, 150, 90), 0.14, 0.12, tail=0.35, cap=BLACK
    ),
    "Anna_Hummingbird": Bird(
        (60, 140, 90), (190, 190, 180), (70, 150, 95), (150, 160, 155), BLACK,
        beak_long=0.6, beak_deep=0.03, tail=0.35, plump=0.2, face=(215, 40, 120), hovers=True,
    ),
    "Blue_Jay": Bird(
        _BLUE, WHITE, _BLUE, (35, 75, 170), BLACK, crest=0.3, tail=0.75, collar=BLACK, face=WHITE
    ),
    "Brown_Pelican": Bird(
        (125, 110, 100), (95, 85, 80), (235, 225, 190), (140, 125, 112), (200, 160, 110),
        beak_long=0.85, beak_deep=0.2, neck=0.45, tail=0.25, plump=0.34,
    ),
    "Cardinal": Bird(_RED, _RED, _RED, (165, 35, 40), _ORANGE, crest=0.38, tail=0.7, face=BLACK),
    "Horned_Puffin": Bird(
        BLACK, WHITE, WHITE, BLACK, _ORANGE, beak_long=0.28, beak_deep=0.28, tail=0.15, plump=0.36,
        cap=BLACK,
    ),
    "Mallard": Bird(
        _DUSK, (190, 185, 178), (25, 110, 65), (150, 140, 130), _YELLOW,
        beak_long=0.3, beak_deep=0.09, neck=0.15, tail=0.25, plump=0.27, collar=WHITE, swims=True,
    ),
}  # fmt: skip


def write(folder: Path, plan: Plan) -> None:
    """Write ``CUB_200_2011/`` with its lists and ``images/NNN.Name/``. Some pictures are grey."""
    root = folder / "CUB_200_2011"
    names = [f"{number:03d}.{name}" for number, name in enumerate(BIRDS, start=1)]
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": []}
    lists |= {"train_test_split": [], "bounding_boxes": []}
    species = list(BIRDS.values())
    for number, (picture, rng) in enumerate(plan.pictures("birds", len(names)), start=1):
        name = names[picture.label]
        file = f"{name}/{name[4:]}_{picture.number:04d}_{number}.jpg"
        sheet, (left, top, right, bottom) = draw(species[picture.label], rng, plan.size)
        save_picture(root / "images" / file, sheet.photograph(grey=0.03))
        lists["images"].append(f"{number} {file}")
        lists["image_class_labels"].append(f"{number} {picture.label + 1}")
        lists["train_test_split"].append(f"{number} {int(picture.train)}")
        box = f"{left}.0 {top}.0 {right - left}.0 {bottom - top}.0"
        lists["bounding_boxes"].append(f"{number} {box}")
    lists["classes"] = [f"{number} {name}" for number, name in enumerate(names, start=1)]
    for name, lines in lists.items():
        write_lines(root / f"{name}.txt", lines)


def draw(bird: Bird, rng: np.random.Generator, size: int) -> tuple[Canvas, Box]:
    """Draw one bird, on a branch, on water or in the air.

    :return: the picture and the box around the bird.
    """
    aspect = float(rng.uniform(1.0, 1.35))
    sheet = Canvas(rng, size, aspect, SKY, uneven=22.0)
    x, y = sheet.around(aspect / 2, 0.1), sheet.around(0.52, 0.06)
    if bird.swims:
        sheet.box(0, y + 0.05, aspect, 1, sheet.shade((80, 125, 150)))
    else:
        for _ in range(6):
            r = sheet.around(0.13, 0.05)
            sheet.oval(sheet.around(aspect / 2, 0.7), sheet.rng.random(), r, r, sheet.shade(GREEN))
    scale = sheet.around(0.43, 0.05)
    if not (bird.swims or bird.hovers):
        branch = y + scale * 0.62
        line = [(-0.1, sheet.around(branch, 0.06)), (x, branch), (aspect + 0.1, branch - 0.1)]
        sheet.stroke(line, 0.045, sheet.shade(BROWN))
    with sheet.watched() as boxes, sheet.placed(x, y, scale=scale, flip=sheet.chance()):
        _body(sheet, bird, sheet.around(-0.35 if not bird.swims else 0.0, 0.12))
    if bird.swims:
        for _ in range(4):
            left, top = sheet.around(x, 0.4), sheet.around(y + 0.25, 0.08)
            sheet.stroke([(left, top), (left + 0.12, top)], 0.012, (170, 200, 215))
    return sheet, boxes[0]


def _body(sheet: Canvas, bird: Bird, turn: float) -> None:
    """Draw the bird, looking right, its body around the origin and one unit long."""
    back, wing = sheet.shade(bird.back, 9.0), sheet.shade(bird.wing, 9.0)
    if not (bird.swims or bird.hovers):
        for x in (-0.04, 0.08):
            sheet.stroke([(x, 0.2), (x, 0.62)], 0.035, GREY)
    with sheet.placed(turn=turn):
        end = -0.42 - bird.tail
        sheet.polygon([(-0.3, -0.1), (end, 0.0), (end, 0.16), (-0.3, 0.14)], darker(wing, 0.85))
        sheet.oval(0.0, 0.0, 0.5, bird.plump, back)
        sheet.oval(0.08, 0.3 * bird.plump, 0.4, bird.plump * 0.72, sheet.shade(bird.belly, 7.0))
        if bird.hovers:
            up = sheet.around(-0.85, 0.15)
            sheet.polygon(smooth([(0.2, -0.1), (-0.15, up), (-0.5, up - 0.1), (-0.2, 0.0)]), wing)
        else:
            fold = [(0.28, -0.12), (-0.1, -0.26), (-0.62, 0.04), (-0.1, 0.16), (0.25, 0.06)]
            sheet.polygon(smooth(fold), wing)
    angle = np.pi / 5 - turn - 0.3
    x, y = float(0.46 * np.cos(angle)), float(-0.46 * np.sin(angle)) - 0.06 - bird.neck
    if bird.neck:
        sheet.stroke([(0.36, 0.0), (x - 0.06, y + bird.neck * 0.5), (x, y)], 0.2, back)
    _head(sheet, bird, x, y)


def _head(sheet: Canvas, bird: Bird, x: float, y: float) -> None:
    """Draw a head around (x, y)."""
    colour, beak = sheet.shade(bird.head, 8.0), sheet.shade(bird.beak, 8.0)
    if bird.collar:
        sheet.oval(x - 0.04, y + 0.16, 0.22, 0.1, bird.collar)
    if bird.crest:
        peak = (x - 0.28, y - 0.18 - bird.crest)
        sheet.polygon([(x - 0.22, y), peak, (x + 0.12, y - 0.17)], colour)
    tip, deep = x + 0.17 + bird.beak_long, bird.beak_deep
    sheet.polygon([(x + 0.1, y - deep), (tip, y + 0.05), (x + 0.1, y + deep)], beak)
    sheet.oval(x, y, 0.22, 0.2, colour)
    if bird.cap:
        sheet.polygon(smooth([(x - 0.23, y), (x - 0.2, y - 0.22), (x + 0.24, y - 0.2)]), bird.cap)
    if bird.face:
        sheet.oval(x + 0.12, y + 0.06, 0.1, 0.11, sheet.shade(bird.face, 6.0))
    sheet.oval(x + 0.06, y - 0.05, 0.05, 0.05, WHITE)
    sheet.oval(x + 0.07, y - 0.05, 0.03, 0.03, BLACK)
