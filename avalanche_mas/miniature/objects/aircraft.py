"""FGVC-Aircraft: nine variants in side view, which differ in shape and not in paint."""

from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from avalanche_mas.miniature.canvas import Box, Canvas, save_picture, smooth
from avalanche_mas.miniature.colours import BLACK, GREEN, GREY, WHITE, Colour, darker
from avalanche_mas.miniature.folder import write_lines
from avalanche_mas.miniature.objects.plan import Plan


@dataclass(frozen=True)
class Aircraft:
    """An aircraft that looks right. Lengths are in lengths of the fuselage."""

    family: str
    manufacturer: str
    thick: float
    fin: float  # how high
    wing: float  # how high it sits: 1 on top of the fuselage, -1 at its bottom
    jets: tuple[float, ...] = ()  # where engines hang under the wing
    rear_jet: bool = False  # an engine at the side of the tail
    propellers: tuple[float, ...] = ()  # where they turn
    t_tail: bool = False
    hump: bool = False
    fighter: bool = False
    tail_down: bool = False  # stands on a wheel under its tail
    length: float = 1.0


# In the order of `variants.txt`, which is that of their names.
AIRCRAFT: dict[str, Aircraft] = {
    "737-800": Aircraft("Boeing 737", "Boeing", 0.125, 0.24, -0.7, jets=(0.1,), length=0.95),
    "747-400": Aircraft(
        "Boeing 747", "Boeing", 0.12, 0.25, -0.7, jets=(0.16, -0.06), hump=True, length=1.15),
    "ATR-72": Aircraft(
        "ATR-72", "ATR", 0.105, 0.24, 1.0, propellers=(0.14,), t_tail=True),
    "C-130": Aircraft(
        "C-130", "Lockheed Corporation", 0.19, 0.34, 1.0, propellers=(0.2, 0.13)),
    "Cessna 172": Aircraft(
        "Cessna 172", "Cessna", 0.13, 0.17, 1.1, propellers=(0.5,), length=0.68),
    "DC-3": Aircraft(
        "DC-3", "Douglas Aircraft Company", 0.14, 0.22, -0.8, propellers=(0.27,), tail_down=True),
    "F-16A/B": Aircraft(
        "F-16", "Lockheed Martin", 0.085, 0.24, 0.0, fighter=True, length=0.9),
    "Global Express": Aircraft(
        "Global Express", "Bombardier Aerospace", 0.1, 0.22, -0.8, rear_jet=True, t_tail=True),
    "Spitfire": Aircraft(
        "Spitfire", "Supermarine", 0.125, 0.13, -0.6, propellers=(0.5,), tail_down=True,
        length=0.75),
}  # fmt: skip

_STRIPES: tuple[Colour, ...] = ((40, 70, 160), (190, 40, 45), (30, 120, 90), (220, 150, 40))


def write(folder: Path, plan: Plan) -> None:
    """Write ``fgvc-aircraft-2013b/data/`` with its lists of variants, families, manufacturers."""
    root = folder / "fgvc-aircraft-2013b" / "data"
    names = list(AIRCRAFT)
    shuffled = plan.shuffled("aircraft", len(names))
    numbers = plan.rng("aircraft numbers").choice(9_999_999, len(shuffled), replace=False)
    splits: dict[str, list[tuple[str, str]]] = {"train": [], "val": [], "trainval": [], "test": []}
    boxes: list[str] = []
    by_number = sorted(zip(numbers, shuffled, strict=True), key=itemgetter(0))
    for number, (picture, rng) in by_number:
        image, variant = f"{number:07d}", names[picture.label]
        sheet, box = draw(AIRCRAFT[variant], rng, plan.size)
        save_picture(root / "images" / f"{image}.jpg", sheet.photograph())
        boxes.append(" ".join([image, *(str(pixel + 1) for pixel in box)]))
        half = "val" if picture.number % 2 else "train"
        for split in (half, "trainval") if picture.train else ("test",):
            splits[split].append((image, variant))
    write_lines(root / "images_box.txt", boxes)
    levels = {
        "variant": {name: name for name in names},
        "family": {name: kind.family for name, kind in AIRCRAFT.items()},
        "manufacturer": {name: kind.manufacturer for name, kind in AIRCRAFT.items()},
    }
    files = {"variant": "variants", "family": "families", "manufacturer": "manufacturers"}
    for level, called in levels.items():
        write_lines(root / f"{files[level]}.txt", sorted(set(called.values())))
        for split, rows in splits.items():
            lines = [f"{image} {called[variant]}" for image, variant in rows]
            write_lines(root / f"images_{level}_{split}.txt", lines)
    for split, rows in splits.items():
        write_lines(root / f"images_{split}.txt", [image for image, _ in rows])


def draw(kind: Aircraft, rng: np.random.Generator, size: int) -> tuple[Canvas, Box]:
    """Draw one aircraft in the air or on a runway, above the banner of the photographer.

    :return: the picture and the box around the aircraft.
    """
    aspect = float(rng.uniform(1.3, 1.5))
    sky = ((150, 190, 225), (185, 200, 215), (120, 165, 215))[int(rng.integers(3))]
    sheet = Canvas(rng, size, aspect, sky)
    landed = sheet.chance()
    y = sheet.around(0.62 if landed else 0.47, 0.04)
    scale = sheet.around(1.08, 0.06)
    if landed:
        ground = y + scale * (0.12 + kind.thick / 2)
        sheet.box(0, ground - 0.16, aspect, ground, sheet.shade(GREEN))
        sheet.box(0, ground - 0.03, aspect, 1, sheet.shade(GREY))
    turn = sheet.around(0.0, 0.02) if landed else sheet.around(-0.1, 0.1)
    x, flip = sheet.around(aspect / 2, 0.03), sheet.chance()
    turn = -turn if flip else turn
    with sheet.watched() as boxes, sheet.placed(x, y, scale=scale, turn=turn, flip=flip):
        _side(sheet, kind, landed)
    sheet.box(0, 0.955, aspect, 1, BLACK)
    for letter in range(12):
        sheet.box(0.06 + letter * 0.04, 0.968, 0.085 + letter * 0.04, 0.985, WHITE)
    return sheet, boxes[0]


def _side(sheet: Canvas, kind: Aircraft, landed: bool) -> None:
    """Draw an aircraft that flies to the right, its middle at the origin."""
    military = kind.fighter or kind.manufacturer in ("Supermarine", "Lockheed Corporation")
    body = sheet.pick([(120, 128, 120), (150, 155, 160)] if military else [WHITE, (215, 220, 225)])
    stripe = sheet.pick(_STRIPES)
    half, r = kind.length / 2, kind.thick / 2
    fin = stripe if not military else darker(body, 0.85)
    top = -r - kind.fin
    if landed:
        for x in (0.28 * kind.length, -0.3 * half if not kind.tail_down else 0.22):
            sheet.stroke([(x, 0.0), (x, r + 0.1)], 0.012, BLACK)
            sheet.oval(x, r + 0.1, 0.025, 0.025, BLACK)
    root = -half * 0.62
    sheet.polygon([(root, 0.0), (-half * 0.85, top), (-half * 1.02, top), (-half, 0.0)], fin)
    level = top if kind.t_tail else -r * 0.3
    sheet.polygon(
        [(-half * 0.72, level + 0.012), (-half * 1.08, level - 0.02), (-half * 1.08, level + 0.02)],
        darker(body),
    )
    _fuselage(sheet, kind, body, stripe, military)
    wing = -r * kind.wing
    sheet.polygon(
        [(0.16 * kind.length, wing), (-0.2 * kind.length, wing + 0.07), (-0.1, wing - 0.012)],
        darker(body, 0.75),
    )
    for x in kind.jets:
        sheet.oval(x, wing + 0.075, 0.075, 0.032, darker(stripe, 0.9))
        sheet.oval(x + 0.06, wing + 0.075, 0.014, 0.03, BLACK)
    if kind.rear_jet:
        sheet.oval(-half * 0.5, -r * 0.75, 0.1, 0.038, darker(stripe, 0.9))
        sheet.oval(-half * 0.5 + 0.085, -r * 0.75, 0.014, 0.034, BLACK)
    for x in kind.propellers:
        if x < half:
            sheet.oval(x - 0.06, wing + 0.02, 0.1, 0.03, darker(body, 0.8))
        tip = min(x + 0.02, half + 0.01)
        middle = 0.0 if x >= half - 0.2 and kind.wing != 1.0 else wing + 0.02
        sheet.oval(tip, middle, 0.012, 0.13, (95, 95, 98))


def _fuselage(sheet: Canvas, kind: Aircraft, body: Colour, stripe: Colour, military: bool) -> None:
    """Draw the fuselage with its windows."""
    half, r = kind.length / 2, kind.thick / 2
    if kind.fighter:
        nose = [(half * 1.1, 0.02), (half * 0.5, -r), (-half, -r * 0.7), (-half, r), (0.2, r)]
        sheet.polygon(nose, body)
        sheet.polygon(smooth([(0.32, -r * 0.9), (0.2, -r * 2.3), (0.0, -r * 0.9)]), (60, 70, 85))
        sheet.polygon([(0.28, r * 0.8), (0.22, r * 1.8), (-0.05, r * 0.9)], darker(body, 0.6))
        return
    if kind.hump:
        sheet.oval(half * 0.6, -r * 0.8, half * 0.38, r * 0.75, body)
    top = [(half * 1.05, 0.0), (half * 0.95, -r * 1.1), (half * 0.7, -r), (-half * 0.6, -r)]
    outline = [*top, (-half * 1.06, -r * 0.75), (-half * 0.5, r), (half * 0.8, r)]
    sheet.polygon(smooth(outline), body)
    if kind.length < 0.8:
        place = half * (0.25 if kind.wing > 0 else -0.05)
        glass = [(place + 0.11, -r * 0.8), (place + 0.04, -r * 1.9), (place - 0.1, -r * 0.8)]
        sheet.polygon(smooth(glass), (70, 90, 110))
        return
    sheet.stroke([(half * 0.9, r * 0.2), (-half * 0.85, -r * 0.1)], 0.014, stripe)
    if not military:
        for x in np.arange(-half * 0.65, half * 0.75, 0.05):
            sheet.oval(float(x), -r * 0.3, 0.01, 0.012, (60, 75, 95))
    sheet.box(half * 0.82, -r * 0.65, half * 0.93, -r * 0.3, (50, 60, 75))
