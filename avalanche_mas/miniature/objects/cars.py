"""Stanford Cars: seven of its cars, which differ in shape and not in colour."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avalanche_mas.miniature.canvas import Box, Canvas, save_picture, smooth
from avalanche_mas.miniature.colours import BLACK, GREEN, GREY, SKY, WHITE, Colour, darker
from avalanche_mas.miniature.objects.matlab import cell_array, save_mat, struct_array
from avalanche_mas.miniature.objects.plan import Plan

Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Car:
    """A car that looks right: x is in lengths of a car, y is 0 on the road and negative above."""

    body: Outline
    windows: tuple[Outline, ...]
    wheels: tuple[float, float]
    wheel: float = 0.085
    round_cuts: int = 1
    spare: bool = False


# In the order of their class numbers, which is that of their names, from 1.
CARS: dict[str, Car] = {
    "Chevrolet Silverado 1500 Extended Cab 2012": Car(
        ((-0.5, -0.08), (-0.5, -0.25), (-0.07, -0.25), (-0.05, -0.43), (0.2, -0.43), (0.28, -0.27),
         (0.5, -0.25), (0.5, -0.08)),
        (((-0.02, -0.27), (0.0, -0.4), (0.17, -0.4), (0.23, -0.27)),), (-0.3, 0.33), 0.095),
    "FIAT 500 Convertible 2012": Car(
        ((-0.36, -0.07), (-0.37, -0.24), (-0.25, -0.29), (0.1, -0.27), (0.15, -0.27), (0.36, -0.2),
         (0.37, -0.07)),
        (((0.03, -0.27), (-0.02, -0.43), (0.01, -0.43), (0.13, -0.27)),), (-0.23, 0.23), 0.08),
    "Jeep Wrangler SUV 2012": Car(
        ((-0.4, -0.12), (-0.4, -0.5), (0.1, -0.5), (0.13, -0.31), (0.42, -0.3), (0.42, -0.12)),
        (((-0.36, -0.32), (-0.36, -0.46), (-0.18, -0.46), (-0.18, -0.32)),
         ((-0.14, -0.32), (-0.14, -0.46), (0.06, -0.46), (0.09, -0.32))),
        (-0.26, 0.28), 0.115, round_cuts=0, spare=True),
    "Lamborghini Aventador Coupe 2012": Car(
        ((-0.52, -0.05), (-0.52, -0.2), (-0.25, -0.24), (-0.02, -0.29), (0.12, -0.27),
         (0.55, -0.1), (0.55, -0.05)),
        (((-0.12, -0.21), (-0.02, -0.26), (0.1, -0.25), (0.25, -0.18)),), (-0.32, 0.33), 0.095),
    "Mercedes-Benz Sprinter Van 2012": Car(
        ((-0.52, -0.07), (-0.52, -0.55), (0.2, -0.55), (0.36, -0.3), (0.5, -0.24), (0.5, -0.07)),
        (((0.08, -0.32), (0.08, -0.48), (0.19, -0.48), (0.3, -0.32)),), (-0.34, 0.34), 0.08),
    "Volvo 240 Sedan 1993": Car(
        ((-0.5, -0.07), (-0.5, -0.25), (-0.3, -0.26), (-0.22, -0.41), (0.1, -0.41), (0.2, -0.26),
         (0.5, -0.24), (0.5, -0.07)),
        (((-0.24, -0.27), (-0.19, -0.38), (-0.06, -0.38), (-0.06, -0.27)),
         ((-0.03, -0.27), (-0.03, -0.38), (0.08, -0.38), (0.15, -0.27))),
        (-0.3, 0.31), 0.085, round_cuts=0),
    "smart fortwo Convertible 2012": Car(
        ((-0.25, -0.08), (-0.26, -0.36), (-0.14, -0.5), (0.06, -0.5), (0.18, -0.29),
         (0.27, -0.24), (0.27, -0.08)),
        (((-0.12, -0.3), (-0.09, -0.44), (0.03, -0.44), (0.12, -0.3)),), (-0.16, 0.17), 0.085),
}  # fmt: skip

_PAINTS: tuple[Colour, ...] = (
    (180, 35, 40), (40, 75, 150), (225, 225, 222), (45, 45, 50), (160, 165, 170), (215, 175, 50),
    (50, 110, 75),
)  # fmt: skip


def write(folder: Path, plan: Plan) -> None:
    """Write ``stanford_cars/`` with its folders of pictures and its MATLAB files."""
    root = folder / "stanford_cars"
    names, cars = list(CARS), list(CARS.values())
    records: dict[bool, list[dict[str, object]]] = {True: [], False: []}
    for picture, rng in plan.shuffled("cars", len(names)):
        split = records[picture.train]
        name = f"{len(split) + 1:05d}.jpg"
        sheet, box = draw(cars[picture.label], rng, plan.size)
        images = "cars_train" if picture.train else "cars_test"
        save_picture(root / images / name, sheet.photograph())
        corners = zip(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), box, strict=True)
        record: dict[str, object] = {key: np.uint16(pixel + 1) for key, pixel in corners}
        split.append(record | {"class": np.uint8(picture.label + 1), "fname": name})
    hidden = [{key: row[key] for key in row if key != "class"} for row in records[False]]
    kit = root / "devkit"
    save_mat(kit / "cars_meta.mat", {"class_names": cell_array(names)})
    save_mat(kit / "cars_train_annos.mat", {"annotations": struct_array(records[True])})
    save_mat(kit / "cars_test_annos.mat", {"annotations": struct_array(hidden)})
    labelled = {"annotations": struct_array(records[False])}
    save_mat(root / "cars_test_annos_withlabels.mat", labelled)


def draw(car: Car, rng: np.random.Generator, size: int) -> tuple[Canvas, Box]:
    """Draw one car from the side.

    :return: the picture and the box around the car.
    """
    aspect = float(rng.uniform(1.2, 1.45))
    sheet = Canvas(rng, size, aspect, SKY, uneven=18.0)
    road = sheet.around(0.76, 0.05)
    for _ in range(4):
        x, high = sheet.around(aspect / 2, 0.7), sheet.around(0.3, 0.15)
        sheet.box(x, road - 0.1 - high, x + 0.22, road, sheet.pick([GREY, GREEN, (170, 150, 130)]))
    sheet.box(0, road - 0.09, aspect, 1, sheet.shade((115, 115, 118)))
    scale = sheet.around(1.05, 0.1)
    x = sheet.around(aspect / 2, 0.06)
    sheet.oval(x, road + 0.01, scale * 0.5, 0.03, (70, 70, 72))
    with sheet.watched() as boxes, sheet.placed(x, road, scale=scale, flip=sheet.chance()):
        _side(sheet, car)
    return sheet, boxes[0]


def _side(sheet: Canvas, car: Car) -> None:
    """Draw a car with its wheels on the road."""
    paint = sheet.pick(_PAINTS)
    with sheet.placed(squash=sheet.around(1.0, 0.06)):
        body = np.array(car.body)
        if car.spare:
            low = float(body[:, 0].min())
            sheet.box(low - 0.07, -0.42, low, -0.2, BLACK)
        sheet.polygon(smooth(body, car.round_cuts), paint)
        for window in car.windows:
            sheet.polygon(window, sheet.shade((60, 75, 90)))
        left, right = float(body[:, 0].min()), float(body[:, 0].max())
        sheet.stroke([(left + 0.05, -0.13), (right - 0.05, -0.13)], 0.018, darker(paint))
        sheet.oval(right - 0.04, -0.19, 0.025, 0.025, (255, 245, 190))
        sheet.box(left, -0.22, left + 0.025, -0.17, (220, 40, 40))
        for wheel in car.wheels:
            sheet.oval(wheel, -car.wheel, car.wheel, car.wheel, BLACK)
            sheet.oval(wheel, -car.wheel, car.wheel * 0.55, car.wheel * 0.55, sheet.shade(WHITE, 9))
