"""MIT Indoor-67: six of its kinds of rooms, with the official lists."""

from pathlib import Path

import numpy as np

from avalanche_mas.miniature.canvas import Canvas, Drawing, save_picture
from avalanche_mas.miniature.colours import BROWN, GREY, WHITE, Colour, darker
from avalanche_mas.miniature.folder import write_lines
from avalanche_mas.miniature.objects.plan import Plan

_WALLS: tuple[Colour, ...] = ((215, 205, 185), (190, 205, 210), (225, 215, 205), (200, 190, 195))

_BOOKS: tuple[Colour, ...] = (
    (150, 50, 45), (50, 75, 130), (60, 105, 70), (195, 165, 95), (215, 205, 190), (95, 60, 90),
    (60, 60, 65),
)  # fmt: skip


def write(folder: Path, plan: Plan) -> None:
    """Write ``scenes-67/`` with ``Images/<class>/``, ``TrainImages.txt`` and ``TestImages.txt``.

    As in the official data there are pictures that no list names, names with spaces and capitals,
    and some pictures in grey.
    """
    root = folder / "scenes-67"
    names = sorted(SCENES)
    lists: dict[bool, list[str]] = {True: [], False: []}
    for picture, rng in plan.pictures("scenes", len(names)):
        name = names[picture.label]
        at = picture.number + (0 if picture.train else plan.images_per_class)
        file = f"{name}_{at:04d}.jpg" if at % 3 else f"{name.title()} photo {at}.jpg"
        image = draw(name, rng, plan.size).photograph(grey=0.03)
        save_picture(root / "Images" / name / file, image)
        lists[picture.train].append(f"{name}/{file}")
    for name in names:
        unlisted = draw(name, plan.rng("unlisted scenes", names.index(name)), plan.size)
        save_picture(root / "Images" / name / f"{name}_unlisted.jpg", unlisted.photograph())
    for train, file in ((True, "TrainImages.txt"), (False, "TestImages.txt")):
        write_lines(root / file, lists[train])


def draw(name: str, rng: np.random.Generator, size: int) -> Canvas:
    """Draw one room.

    :param name: a key of ``SCENES``.
    """
    aspect = float(rng.uniform(1.1, 1.4))
    sheet = Canvas(rng, size, aspect, ground=_WALLS[int(rng.integers(len(_WALLS)))])
    with sheet.placed(aspect / 2, 0.0, flip=sheet.chance()):
        SCENES[name](sheet)
    return sheet


def _floor(sheet: Canvas, colour: Colour, top: float) -> None:
    sheet.box(-1, top, 1, 1, sheet.shade(colour))
    sheet.stroke([(-1, top), (1, top)], 0.02, darker(colour))


def _bedroom(sheet: Canvas) -> None:
    _floor(sheet, BROWN, sheet.around(0.68, 0.04))
    window = sheet.around(-0.35, 0.06)
    sheet.box(window - 0.15, 0.1, window + 0.15, 0.42, WHITE)
    sheet.box(window - 0.12, 0.13, window + 0.12, 0.39, sheet.shade((140, 185, 230)))
    sheet.stroke([(window, 0.1), (window, 0.42)], 0.02, WHITE)
    blanket = sheet.pick([(170, 60, 70), (70, 90, 160), (90, 140, 100), (190, 160, 90)])
    with sheet.placed(sheet.around(0.1, 0.08), sheet.around(0.78, 0.04)):
        sheet.box(0.4, -0.38, 0.48, 0.12, sheet.shade(darker(BROWN)))
        sheet.box(-0.5, -0.06, 0.45, 0.1, sheet.shade(WHITE, 6))
        sheet.polygon([(-0.5, 0.1), (-0.48, -0.1), (0.18, -0.13), (0.2, 0.1)], blanket)
        sheet.oval(0.3, -0.12, 0.12, 0.07, WHITE)
        sheet.box(-0.54, -0.16, -0.48, 0.13, sheet.shade(darker(BROWN)))


def _corridor(sheet: Canvas) -> None:
    x, y, far = sheet.around(0.0, 0.1), sheet.around(0.45, 0.05), sheet.around(0.12, 0.03)
    walls = sheet.pick(_WALLS)
    sheet.polygon([(-0.9, 1.1), (0.9, 1.1), (x + far, y + far), (x - far, y + far)], GREY)
    sheet.polygon([(-0.9, -0.1), (0.9, -0.1), (x + far, y - far), (x - far, y - far)], WHITE)
    for side in (-1, 1):
        near = [(side * 0.9, -0.1), (side * 0.9, 1.1)]
        back = [(x + side * far, y + far), (x + side * far, y - far)]
        sheet.polygon([*near, *back], darker(walls, 0.9 if side > 0 else 0.75))
        door = sheet.pick([BROWN, (60, 80, 110), (90, 110, 90)])
        for start, end in ((0.15, 0.4), (0.52, 0.68), (0.76, 0.84)):
            corners = []
            for along, height in ((start, 0.55), (start, -0.7), (end, -0.7), (end, 0.55)):
                width = 0.9 * side * (1 - along) + (x + side * far) * along
                half = 0.6 * (1 - along) + far * along
                foot = 0.5 * (1 - along) + y * along
                corners.append((width, foot + (half if height > 0 else height * half)))
            sheet.polygon(corners, door)
    sheet.box(x - far, y - far, x + far, y + far, sheet.shade((235, 235, 215)))
    for along in (0.3, 0.6, 0.8):
        lamp = (1 - along) * 0.12
        height = -0.1 * (1 - along) + (y - far) * along
        sheet.oval(x * along, height, lamp, lamp / 3, (255, 255, 225))


def _laundromat(sheet: Canvas) -> None:
    _floor(sheet, (150, 140, 130), 0.85)
    columns, rows = int(sheet.rng.integers(3, 5)), int(sheet.rng.integers(1, 3))
    step = 1.5 / columns
    high = min(step * 1.1, 0.78 / rows)
    paint = sheet.pick([WHITE, (205, 215, 220), (185, 190, 195)])
    for row in range(rows):
        for column in range(columns + 1):
            with sheet.placed((column - columns / 2) * step, 0.88 - (row + 0.5) * high):
                half = step * 0.47
                sheet.box(-half, -high * 0.48, half, high * 0.48, paint)
                sheet.box(-half, -high * 0.48, half, -high * 0.34, sheet.shade((70, 100, 150)))
                ring = min(step, high) * 0.34
                sheet.oval(0, 0.06 * high, ring, ring, sheet.shade(GREY))
                sheet.oval(0, 0.06 * high, ring * 0.72, ring * 0.72, sheet.shade((40, 50, 70)))


def _library(sheet: Canvas) -> None:
    _floor(sheet, (120, 90, 60), 0.9)
    wood = sheet.pick([BROWN, (140, 100, 60), (85, 60, 45)])
    sheet.box(-0.75, 0.02, 0.75, 0.92, wood)
    shelves = int(sheet.rng.integers(4, 6))
    high = 0.88 / shelves
    for shelf in range(shelves):
        foot = 0.03 + (shelf + 1) * high
        x = -0.71
        while x < 0.69:
            wide = sheet.around(0.035, 0.012)
            top = foot - high * sheet.around(0.72, 0.14)
            sheet.box(x, top, x + wide, foot - 0.015, sheet.pick(_BOOKS))
            x += wide + 0.006
            if sheet.chance(0.06):
                x += 0.08
    if sheet.chance(0.6):
        table = sheet.around(0.0, 0.3)
        sheet.box(table - 0.3, 0.78, table + 0.3, 0.82, darker(wood))
        for leg in (-0.26, 0.26):
            sheet.stroke([(table + leg, 0.82), (table + leg, 1.0)], 0.03, darker(wood))


def _poolside(sheet: Canvas) -> None:
    edge = sheet.around(0.48, 0.05)
    for column in range(-3, 4):
        left = column * 0.26 + sheet.around(0.0, 0.02)
        sheet.box(left, 0.08, left + 0.19, edge - 0.12, sheet.shade((185, 220, 240)))
    _floor(sheet, (205, 195, 175), edge - 0.06)
    lean = sheet.around(0.0, 0.15)
    water = sheet.shade((45, 150, 195))
    sheet.polygon([(-0.5 + lean, edge), (0.5 + lean, edge), (0.95, 1.05), (-0.95, 1.05)], water)
    for lane in (-0.6, -0.2, 0.2, 0.6):
        start, end = (lane * 0.5 + lean, edge), (lane * 0.95, 1.05)
        sheet.stroke([start, end], 0.02, sheet.pick([(225, 70, 60), WHITE]))
    for _ in range(8):
        x, y = sheet.around(0.0, 0.5), sheet.around((edge + 1) / 2 + 0.05, 0.18)
        sheet.stroke([(x, y), (x + 0.08, y)], 0.012, (190, 230, 240))
    if sheet.chance(0.5):
        x = sheet.around(0.0, 0.4)
        sheet.stroke([(x, edge + 0.1), (x, edge - 0.12), (x + 0.1, edge - 0.12)], 0.025, WHITE)


def _stairs(sheet: Canvas) -> None:
    _floor(sheet, GREY, 0.9)
    steps = int(sheet.rng.integers(6, 9))
    stone = sheet.pick([(180, 165, 140), BROWN, (150, 150, 155)])
    left, wide, high = sheet.around(-0.55, 0.05), 1.1 / steps, 0.75 / steps
    for step in range(steps):
        x, top = left + step * wide, 0.93 - (step + 1) * high
        sheet.box(x, top, left + 1.4, 0.95, darker(stone, 0.62 + 0.38 * (step % 2)))
        sheet.box(x, top, left + 1.4, top + 0.025, WHITE)
    rail = sheet.pick([(60, 45, 35), (40, 40, 45)])
    for step in range(0, steps, 2):
        x, top = left + (step + 0.5) * wide, 0.93 - (step + 1) * high
        sheet.stroke([(x, top), (x, top - 0.22)], 0.018, rail)
    slope = [(left + 0.5 * wide, 0.71 - high), (left + (steps - 0.5) * wide, 0.71 - steps * high)]
    sheet.stroke(slope, 0.035, rail)


# The official name of a class, and how it looks.
SCENES: dict[str, Drawing] = {
    "bedroom": _bedroom,
    "corridor": _corridor,
    "laundromat": _laundromat,
    "library": _library,
    "poolside": _poolside,
    "stairscase": _stairs,
}
