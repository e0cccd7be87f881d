"""Stick figures: what people do with their arms and legs, and the things they do it with."""

from dataclasses import dataclass

import numpy as np

from avalanche_mas.miniature.canvas import Canvas, Point, smooth
from avalanche_mas.miniature.colours import BLACK, BROWN, GREY, WHITE, Colour, darker

Limb = tuple[float, float]  # degrees of its upper and lower half: 0 hangs down, 90 points ahead

_SHIRTS: tuple[Colour, ...] = (
    (180, 50, 50), (60, 100, 170), (70, 140, 80), (220, 215, 205), (225, 180, 60), (120, 70, 130),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = ((55, 65, 100), (50, 50, 52), (130, 115, 90), (90, 90, 95))
_TORSO, _HEAD, _ARM, _LEG = 0.33, 0.09, 0.16, 0.21


@dataclass(frozen=True)
class Stance:
    """What the legs do, and what they do it on."""

    near: Limb
    far: Limb
    lean: float = 0.0
    lift: float = 0.0
    on: str = ""


@dataclass(frozen=True)
class Gesture:
    """What the arms do, and what the hands hold."""

    near: Limb
    far: Limb
    holds: str = ""


STANCES: dict[str, Stance] = {
    "standing": Stance((3, 1), (-4, -3)),
    "jumping": Stance((75, -45), (-30, -110), lift=0.22),
    "ridingbike": Stance((75, -10), (35, -25), lean=32, on="bike"),
    "ridinghorse": Stance((55, -15), (45, -20), lean=4, on="horse"),
    "running": Stance((62, 5), (-25, -105), lean=14),
    "usingcomputer": Stance((85, 2), (80, -3), lean=6, on="chair"),
    "walking": Stance((24, 14), (-20, -34), lean=2),
}
GESTURES: dict[str, Gesture] = {
    "other": Gesture((7, 10), (-7, -4)),
    "jumping": Gesture((150, 165), (-155, -170)),
    "phoning": Gesture((35, 172), (-5, 4), holds="phone"),
    "playinginstrument": Gesture((35, 95), (70, 120), holds="guitar"),
    "reading": Gesture((35, 100), (28, 92), holds="book"),
    "ridingbike": Gesture((62, 78), (58, 74)),
    "ridinghorse": Gesture((40, 85), (35, 80)),
    "running": Gesture((-55, 25), (55, 140)),
    "takingphoto": Gesture((72, 142), (66, 136), holds="camera"),
    "usingcomputer": Gesture((38, 88), (32, 84), holds="laptop"),
    "walking": Gesture((-24, -8), (26, 44)),
}


def draw_person(sheet: Canvas, stance: str, gesture: str) -> None:
    """Draw one person who looks right; the origin is on the ground, a unit is their height.

    :param stance: a key of ``STANCES``.
    :param gesture: a key of ``GESTURES``.
    """
    legs, arms = STANCES[stance], GESTURES[gesture]
    skin = sheet.pick([(235, 195, 165), (200, 150, 115), (140, 95, 65), (100, 68, 48)])
    shirt, trousers = sheet.pick(_SHIRTS), sheet.pick(_TROUSERS)
    reach = max(_reach(legs.near), _reach(legs.far))
    seat = {"bike": 0.52, "horse": 0.56, "chair": 0.26}.get(legs.on, reach)
    hip = (0.0, -seat - legs.lift)
    lean = legs.lean + sheet.around(0.0, 4.0)
    shoulder = _ahead(hip, 180 - lean, _TORSO)
    _limb(sheet, hip, legs.far, _LEG, 0.085, darker(trousers), BLACK)
    _limb(sheet, shoulder, arms.far, _ARM, 0.06, darker(shirt), darker(skin))
    sheet.stroke([hip, shoulder], 0.15, shirt)
    head = _ahead(shoulder, 180 - lean, 0.15)
    sheet.oval(*head, _HEAD, _HEAD * 1.1, skin)
    hair = sheet.pick([(60, 40, 25), BLACK, (170, 130, 70), (120, 60, 30)])
    x, y = head
    rim = [(x + 0.09, y - 0.05), (x, y - 0.13), (x - 0.11, y - 0.06), (x - 0.09, y + 0.05),
           (x - 0.02, y - 0.03)]  # fmt: skip
    sheet.polygon(smooth(rim), hair)
    _limb(sheet, hip, legs.near, _LEG, 0.09, trousers, BLACK)
    hand = _limb(sheet, shoulder, arms.near, _ARM, 0.065, shirt, skin)
    if arms.holds:
        _HELD[arms.holds](sheet, hand, hip)


def draw_under(sheet: Canvas, stance: str) -> None:
    """Draw what a person with this stance sits on, if anything, in the same coordinates."""
    if STANCES[stance].on:
        _MOUNTS[STANCES[stance].on](sheet)


def _ahead(start: Point, degrees: float, far: float) -> Point:
    """Go ``far`` from ``start``; 0 degrees is down and 90 to the right."""
    angle = np.deg2rad(degrees)
    return start[0] + far * float(np.sin(angle)), start[1] + far * float(np.cos(angle))


def _reach(limb: Limb) -> float:
    """How far down a leg reaches."""
    return _LEG * float(np.cos(np.deg2rad(limb[0])) + np.cos(np.deg2rad(limb[1])))


def _limb(
    sheet: Canvas, start: Point, limb: Limb, half: float, width: float, cloth: Colour, end: Colour
) -> Point:
    """Draw an arm or a leg, and return where the hand or the foot is."""
    joint = _ahead(start, limb[0] + sheet.around(0.0, 6.0), half)
    tip = _ahead(joint, limb[1] + sheet.around(0.0, 6.0), half)
    sheet.stroke([start, joint, tip], width, cloth)
    sheet.oval(*tip, width * 0.6, width * 0.6, end)
    return tip


def _phone(sheet: Canvas, hand: Point, hip: Point) -> None:
    x, y = hand
    sheet.stroke([(x - 0.02, y - 0.08), (x + 0.01, y + 0.04)], 0.06, (20, 20, 25))


def _book(sheet: Canvas, hand: Point, hip: Point) -> None:
    x, y = hand
    cover = sheet.pick([(190, 40, 40), (40, 90, 170), (40, 130, 80)])
    sheet.polygon([(x - 0.02, y - 0.16), (x + 0.17, y - 0.22), (x + 0.17, y), (x, y + 0.06)], cover)
    page = [(x - 0.04, y - 0.14), (x + 0.02, y - 0.19), (x + 0.14, y - 0.19), (x, y + 0.03)]
    sheet.polygon(page, WHITE)


def _camera(sheet: Canvas, hand: Point, hip: Point) -> None:
    x, y = hand
    sheet.box(x - 0.06, y - 0.09, x + 0.08, y + 0.05, (25, 25, 28))
    sheet.box(x + 0.08, y - 0.07, x + 0.17, y + 0.03, (55, 55, 60))
    sheet.oval(x + 0.17, y - 0.02, 0.02, 0.05, (130, 160, 200))
    sheet.oval(x, y - 0.11, 0.03, 0.03, (255, 255, 210))


def _guitar(sheet: Canvas, hand: Point, hip: Point) -> None:
    x, y = hip[0] + 0.05, hip[1] - 0.1
    wood = sheet.pick([(190, 120, 50), (150, 60, 40), (215, 170, 90)])
    sheet.stroke([(x, y), (x + 0.42, y - 0.24)], 0.035, (70, 45, 30))
    sheet.stroke([(x + 0.42, y - 0.24), (x + 0.48, y - 0.28)], 0.06, BLACK)
    sheet.oval(x - 0.06, y + 0.03, 0.13, 0.12, wood)
    sheet.oval(x + 0.07, y - 0.04, 0.09, 0.085, wood)
    sheet.oval(x - 0.01, y, 0.04, 0.04, BLACK)


def _laptop(sheet: Canvas, hand: Point, hip: Point) -> None:
    x, y = hand[0], hand[1] + 0.05
    sheet.box(x - 0.1, y, x + 0.42, y + 0.035, sheet.shade(BROWN))
    sheet.box(x + 0.34, y, x + 0.38, 0.0, darker(BROWN))
    sheet.polygon([(x + 0.15, y), (x + 0.2, y - 0.22), (x + 0.225, y - 0.22), (x + 0.18, y)], GREY)
    sheet.polygon([(x + 0.12, y - 0.02), (x + 0.16, y - 0.2), (x + 0.2, y - 0.22), (x + 0.16, y)],
                  (150, 215, 250))  # fmt: skip
    sheet.box(x - 0.04, y - 0.02, x + 0.16, y, BLACK)


def _bike(sheet: Canvas) -> None:
    paint = sheet.pick([(200, 40, 40), (40, 90, 180), (40, 40, 45), (230, 180, 40)])
    for x in (-0.24, 0.34):
        for r, colour in ((0.2, BLACK), (0.165, (150, 165, 150))):
            sheet.oval(x, -0.2, r, r, colour)
        for turn in np.arange(4) * np.pi / 4:
            dx, dy = 0.16 * float(np.cos(turn)), 0.16 * float(np.sin(turn))
            sheet.stroke([(x - dx, -0.2 - dy), (x + dx, -0.2 + dy)], 0.008, GREY)
    frame = [(-0.24, -0.2), (-0.02, -0.46), (0.27, -0.48), (0.05, -0.18), (-0.24, -0.2)]
    sheet.stroke(frame, 0.03, paint)
    sheet.stroke([(0.34, -0.2), (0.26, -0.52), (0.34, -0.56)], 0.03, paint)
    sheet.stroke([(0.05, -0.18), (-0.02, -0.46)], 0.03, paint)
    sheet.stroke([(-0.09, -0.49), (0.05, -0.49)], 0.035, BLACK)


def _horse(sheet: Canvas) -> None:
    coat = sheet.pick([(120, 75, 40), (80, 55, 40), (60, 50, 48), (190, 175, 155)])
    for x, shift in ((-0.3, -0.05), (-0.2, 0.05), (0.22, 0.08), (0.3, -0.02)):
        sheet.stroke([(x, -0.35), (x + shift, -0.18), (x + shift, 0.0)], 0.055, darker(coat, 0.85))
    sheet.polygon(smooth([(0.2, -0.55), (0.55, -0.9), (0.62, -0.75), (0.4, -0.35)]), coat)
    sheet.oval(0.0, -0.42, 0.42, 0.16, coat)
    sheet.polygon(smooth([(0.46, -0.9), (0.56, -0.92), (0.8, -0.7), (0.74, -0.62)]), coat)
    sheet.stroke([(0.5, -0.93), (0.52, -0.85)], 0.03, coat)
    sheet.stroke([(0.3, -0.6), (0.48, -0.88)], 0.05, darker(coat, 0.5))
    sheet.stroke([(-0.4, -0.5), (-0.52, -0.2)], 0.06, darker(coat, 0.5))


def _chair(sheet: Canvas) -> None:
    sheet.stroke([(-0.15, -0.55), (-0.13, -0.22), (0.12, -0.22)], 0.04, BROWN)
    for x in (-0.13, 0.1):
        sheet.stroke([(x, -0.22), (x, 0.0)], 0.03, BROWN)


_HELD = {"phone": _phone, "book": _book, "camera": _camera, "guitar": _guitar, "laptop": _laptop}
_MOUNTS = {"bike": _bike, "horse": _horse, "chair": _chair}
