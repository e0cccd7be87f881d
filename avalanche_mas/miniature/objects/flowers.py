"""Oxford Flowers-102: ten of its flowers, under their official labels."""

from pathlib import Path

import numpy as np

from avalanche_mas.miniature.canvas import Canvas, Drawing, Floats, save_picture, smooth
from avalanche_mas.miniature.colours import GREEN, WHITE, Colour
from avalanche_mas.miniature.objects.matlab import save_mat
from avalanche_mas.miniature.objects.plan import Plan

_YELLOW: Colour = (245, 200, 40)
_PURPLE: Colour = (110, 60, 160)


def write(folder: Path, plan: Plan) -> None:
    """Write ``flowers-102/`` with ``jpg/``, ``imagelabels.mat`` and ``setid.mat``.

    Half of the training pictures are the official validation set, as each class has ten and ten.
    """
    root = folder / "flowers-102"
    pictures = plan.shuffled("flowers", len(FLOWERS))
    labels = sorted(FLOWERS)
    sets: dict[str, list[int]] = {"trnid": [], "valid": [], "tstid": []}
    for number, (picture, rng) in enumerate(pictures, start=1):
        path = root / "jpg" / f"image_{number:05d}.jpg"
        save_picture(path, draw(labels[picture.label], rng, plan.size).photograph())
        half = "valid" if picture.number % 2 else "trnid"
        sets[half if picture.train else "tstid"].append(number)
    found = np.array([[labels[picture.label] for picture, _ in pictures]], dtype=np.uint8)
    save_mat(root / "imagelabels.mat", {"labels": found})
    numbers = {name: np.array([ids], dtype=np.uint16) for name, ids in sets.items()}
    save_mat(root / "setid.mat", numbers)


def draw(label: int, rng: np.random.Generator, size: int) -> Canvas:
    """Draw one flower in front of leaves.

    :param label: the official label, a key of ``FLOWERS``.
    """
    aspect = float(rng.uniform(1.0, 1.3))
    sheet = Canvas(rng, size, aspect, ground=(60, 95, 50), uneven=26.0)
    x, y = sheet.around(aspect / 2, 0.08), sheet.around(0.46, 0.06)
    for _ in range(5):
        with sheet.placed(x, y, turn=sheet.around(0.0, np.pi), scale=0.5):
            sheet.polygon(petal(0.3, 1.3, 0.3), sheet.shade(GREEN))
    sheet.stroke([(x, y), (sheet.around(x, 0.12), 1.1)], 0.05, sheet.shade(GREEN))
    tilt = sheet.around(0.85, 0.15)
    turn = sheet.around(0.0, 0.3)
    with sheet.placed(x, y, scale=sheet.around(0.41, 0.05), squash=tilt, turn=turn):
        FLOWERS[label](sheet)
    return sheet


def petal(start: float, end: float, width: float, tip: float = 1.0) -> Floats:
    """Outline a petal that points upwards, from ``start`` to ``end`` away from the middle.

    :param tip: below 1 its ends are blunt, above 1 they are drawn out.
    """
    along = np.linspace(0.0, 1.0, 12)
    half = width / 2 * np.sin(np.pi * along) ** tip
    y = -(start + (end - start) * along)
    return np.concatenate([np.stack([half, y], 1), np.stack([-half, y], 1)[::-1]])


def _ring(
    sheet: Canvas, count: int, end: float, width: float, colour: Colour, tip: float = 0.7
) -> None:
    """Draw petals all around."""
    for _ in sheet.turned(sheet.around(0.0, 0.3) + np.arange(count) * 2 * np.pi / count):
        sheet.polygon(petal(0.05, end * sheet.around(1.0, 0.06), width, tip), colour)
        sheet.stroke([(0.0, -0.2), (0.0, -0.8 * end)], 0.015, sheet.shade(colour, 25.0))


def _sunflower(sheet: Canvas) -> None:
    _ring(sheet, 19, 1.0, 0.26, sheet.shade(_YELLOW), tip=1.1)
    _ring(sheet, 17, 0.85, 0.22, sheet.shade((230, 165, 25)), tip=1.1)
    sheet.oval(0, 0, 0.47, 0.47, sheet.shade((75, 45, 25)))
    sheet.oval(0, 0, 0.2, 0.2, sheet.shade((50, 30, 18)))


def _daisy(sheet: Canvas) -> None:
    _ring(sheet, 15, 1.0, 0.27, sheet.shade(WHITE, 5.0), tip=0.5)
    sheet.oval(0, 0, 0.27, 0.27, sheet.shade(_YELLOW))


def _passion_flower(sheet: Canvas) -> None:
    _ring(sheet, 10, 1.0, 0.42, sheet.shade((225, 225, 215)), tip=0.8)
    blue = sheet.shade((85, 70, 175))
    for _ in sheet.turned(np.arange(36) * np.pi / 18):
        sheet.stroke([(0.0, -0.25), (0.0, -0.72)], 0.03, blue)
        sheet.stroke([(0.0, -0.25), (0.0, -0.4)], 0.04, WHITE)
    sheet.oval(0, 0, 0.22, 0.22, sheet.shade((120, 40, 90)))
    for _ in sheet.turned(np.arange(5) * 2 * np.pi / 5):
        sheet.stroke([(0.0, 0.0), (0.0, -0.27)], 0.07, sheet.shade((190, 205, 90)))


def _rose(sheet: Canvas) -> None:
    red = sheet.shade((185, 25, 45))
    for layer, radius in enumerate((0.62, 0.45, 0.3, 0.17)):
        for _ in sheet.turned(layer * 0.6 + np.arange(5) * 2 * np.pi / 5):
            sheet.oval(0, -radius * 0.62, radius * 0.68, radius * 0.6, sheet.shade(red, 20.0))
    sheet.oval(0, 0, 0.1, 0.1, (95, 10, 25))


def _water_lily(sheet: Canvas) -> None:
    sheet.oval(0, 0.3, 1.3, 0.85, sheet.shade((40, 80, 95)))
    sheet.oval(-0.1, 0.45, 1.0, 0.55, sheet.shade((60, 125, 70)))
    pink = sheet.shade((235, 150, 190))
    for turn in (-1.45, 1.45, -1.1, 1.1, -0.75, 0.75, -0.4, 0.4, 0.0):
        with sheet.placed(0, 0.35, turn=turn):
            sheet.polygon(petal(0.0, 1.0, 0.34, 1.2), sheet.shade(pink, 16.0))
    sheet.oval(0, 0.15, 0.16, 0.12, sheet.shade(_YELLOW))


def _bird_of_paradise(sheet: Canvas) -> None:
    with sheet.placed(-0.5, 0.45):
        for turn in (-0.1, 0.35, 0.8):
            with sheet.placed(0.3, 0.0, turn=turn):
                sheet.polygon(petal(0.0, 1.25, 0.26, 1.3), sheet.shade((245, 130, 25)))
        with sheet.placed(0.3, 0.0, turn=1.15):
            sheet.polygon(petal(0.0, 1.0, 0.18, 1.3), sheet.shade((45, 60, 175)))
        beak = [(-0.5, 0.2), (0.3, -0.1), (1.4, -0.05), (0.3, 0.16)]
        sheet.polygon(smooth(beak, 1), sheet.shade((95, 110, 70)))
        sheet.stroke([(0.0, 0.0), (1.2, -0.05)], 0.05, sheet.shade((190, 60, 70)))


def _morning_glory(sheet: Canvas) -> None:
    angle = np.linspace(0, 2 * np.pi, 41)[:-1]
    radius = 0.92 + 0.06 * np.cos(5 * angle)
    rim = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    sheet.polygon(rim, sheet.shade((70, 85, 205)))
    for _ in sheet.turned(np.arange(5) * 2 * np.pi / 5):
        sheet.polygon(petal(0.0, 0.85, 0.2, 1.5), sheet.shade((170, 180, 240)))
    sheet.oval(0, 0, 0.26, 0.26, WHITE)
    sheet.oval(0, 0, 0.1, 0.1, _YELLOW)


def _wild_pansy(sheet: Canvas) -> None:
    violet, yellow = sheet.shade(_PURPLE), sheet.shade(_YELLOW)
    for x, y in ((-0.38, -0.45), (0.38, -0.45)):
        sheet.oval(x, y, 0.5, 0.48, violet)
    for x in (-0.48, 0.48):
        sheet.oval(x, 0.12, 0.46, 0.4, sheet.shade((190, 160, 215)))
    sheet.oval(0, 0.48, 0.55, 0.45, yellow)
    for _ in sheet.turned((2.2, 2.7, 3.14, 3.6, 4.1)):
        sheet.stroke([(0.0, -0.1), (0.0, -0.5)], 0.05, (50, 25, 60))
    sheet.oval(0, 0.05, 0.12, 0.1, yellow)


def _globe_thistle(sheet: Canvas) -> None:
    blue = sheet.shade((105, 115, 190))
    for _ in sheet.turned(np.arange(44) * np.pi / 22):
        sheet.stroke([(0.0, 0.0), (0.0, -sheet.around(0.85, 0.1))], 0.045, sheet.shade(blue))
    sheet.oval(0, 0, 0.62, 0.62, blue)
    for _ in range(40):
        turn, far = sheet.around(0.0, np.pi), 0.58 * sheet.rng.random() ** 0.5
        x, y = float(far * np.cos(turn)), float(far * np.sin(turn))
        sheet.stroke([(x, y), (1.25 * x, 1.25 * y)], 0.035, sheet.shade(blue, 35.0))


def _poppy(sheet: Canvas) -> None:
    orange = sheet.shade((240, 120, 20))
    for turn in (0.0, np.pi, np.pi / 2, -np.pi / 2):
        with sheet.placed(turn=turn + 0.4):
            fan = [
                (-0.1, 0.0),
                (-0.75, -0.55),
                (-0.45, -1.0),
                (0.45, -1.0),
                (0.75, -0.55),
                (0.1, 0),
            ]
            sheet.polygon(smooth(fan), sheet.shade(orange, 18.0))
    for _ in sheet.turned(np.arange(12) * np.pi / 6):
        sheet.stroke([(0.0, 0.0), (0.0, -0.2)], 0.05, (190, 80, 10))


# The official label of a flower, from 1, and how it looks.
FLOWERS: dict[int, Drawing] = {
    8: _bird_of_paradise,
    10: _globe_thistle,
    49: _daisy,
    52: _wild_pansy,
    54: _sunflower,
    65: _poppy,
    73: _water_lily,
    74: _rose,
    76: _morning_glory,
    77: _passion_flower,
}
