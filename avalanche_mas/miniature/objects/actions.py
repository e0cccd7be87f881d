"""VOC2012 Actions: scenes with a few people, each with a box and what they do."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from avalanche_mas.benchmarks.datasets.actions import CLASSES
from avalanche_mas.miniature.canvas import Box, Canvas, save_picture
from avalanche_mas.miniature.colours import BROWN, GREEN, GREY, SKY
from avalanche_mas.miniature.folder import write_lines
from avalanche_mas.miniature.objects.plan import Plan
from avalanche_mas.miniature.people import STANCES, draw_person, draw_under

# Two things that people do at once: the first with their legs, the second with their hands.
_TWO = (
    ("walking", "phoning"),
    ("ridingbike", "takingphoto"),
    ("walking", "reading"),
    ("ridinghorse", "phoning"),
    ("jumping", "takingphoto"),
    ("walking", "playinginstrument"),
)
_TWO_EVERY = 6  # images: in each of those, one person more does two things

Person = tuple[str, ...]  # what someone does: one thing, or one with legs and one with hands


def write(folder: Path, plan: Plan) -> None:
    """Write ``VOCdevkit/VOC2012/`` with ``JPEGImages``, ``Annotations``, ``ImageSets/Action``.

    The official test annotations are not published: the pictures for tests are the official
    ``val``.
    """
    root = folder / "VOCdevkit" / "VOC2012"
    lists: dict[str, list[tuple[str, list[Person]]]] = {"train": [], "val": []}
    number = 0
    for split, images in lists.items():
        for people in _groups(plan, split):
            number += 1
            name = f"{2010 + number % 3}_{number:06d}"
            rng = plan.rng("action scenes", number, split == "val")
            sheet, boxes = draw(people, rng, plan.size)
            save_picture(root / "JPEGImages" / f"{name}.jpg", sheet.photograph())
            path = root / "Annotations" / f"{name}.xml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(_annotation(name, sheet, people, boxes), encoding="utf-8")
            images.append((name, people))
    for split in ("train", "val", "trainval"):
        images = [image for part in lists if part in split for image in lists[part]]
        _write_lists(root / "ImageSets" / "Action", split, images)


def draw(people: list[Person], rng: np.random.Generator, size: int) -> tuple[Canvas, list[Box]]:
    """Draw people side by side in a scene.

    :param people: what each of them does, left to right.
    :param size: the height of a person in pixels; the scene is half as high again.
    :return: the picture and the boxes around the people, without what they sit on.
    """
    aspect = 0.68 * len(people) + float(rng.uniform(0.1, 0.3))
    indoors = bool(rng.random() < 0.3)
    sheet = Canvas(rng, round(size * 1.5), aspect, (205, 195, 180) if indoors else SKY)
    ground = sheet.around(0.86, 0.03)
    for _ in range(round(3 * aspect)):
        x, high = aspect * float(rng.random()), sheet.around(0.35, 0.2)
        if indoors:
            sheet.box(x, 0.6 - high, x + 0.2, 0.6, sheet.shade((150, 120, 100), 40.0))
        else:
            sheet.stroke([(x, ground), (x, ground - high)], 0.03, BROWN)
            sheet.oval(x, ground - high, 0.12, 0.14, sheet.shade(GREEN, 18.0))
    sheet.box(0, ground - 0.12, aspect, 1, sheet.shade(BROWN if indoors else GREY, 25.0))
    boxes = []
    for place, actions in enumerate(people):
        stance = actions[0] if actions[0] in STANCES else "standing"
        x = (place + 0.5) * aspect / len(people) + sheet.around(0.0, 0.04)
        y, scale = ground + sheet.around(0.04, 0.03), sheet.around(0.68, 0.05)
        with sheet.placed(x, y, scale=scale, flip=sheet.chance()):
            draw_under(sheet, stance)
            with sheet.watched() as box:
                draw_person(sheet, stance, actions[-1])
        boxes += box
    return sheet, boxes


def _groups(plan: Plan, split: str) -> list[list[Person]]:
    """Deal out the people of a split to images, one to three to each."""
    people: list[Person] = [
        (CLASSES[picture.label],)
        for picture, _ in plan.shuffled("actions", len(CLASSES))
        if picture.train == (split == "train")
    ]
    rng = plan.rng("action groups", split == "train")
    groups: list[list[Person]] = []
    while people:
        size = int(rng.integers(1, 4))
        group, people = people[:size], people[size:]
        if len(groups) % _TWO_EVERY == 0:
            both = _TWO[len(groups) // _TWO_EVERY % len(_TWO)]
            group.insert(int(rng.integers(len(group) + 1)), both)
        groups.append(group)
    return groups


def _annotation(name: str, sheet: Canvas, people: list[Person], boxes: list[Box]) -> str:
    """Describe an image as the development kit does."""
    root = ElementTree.Element("annotation")
    _add(root, folder="VOC2012", filename=f"{name}.jpg")
    source = ElementTree.SubElement(root, "source")
    _add(source, database="drawn miniature", annotation="PASCAL VOC2012", image="drawn")
    size = ElementTree.SubElement(root, "size")
    width, height = round(sheet.size * sheet.aspect), sheet.size
    _add(size, width=width, height=height, depth=3)
    _add(root, segmented=0)
    for person, (left, top, right, bottom) in zip(people, boxes, strict=True):
        entry = ElementTree.SubElement(root, "object")
        _add(entry, name="person")
        actions = ElementTree.SubElement(entry, "actions")
        _add(actions, **{action: int(action in person) for action in sorted(CLASSES)})
        box = ElementTree.SubElement(entry, "bndbox")
        _add(box, xmax=right + 1, xmin=left + 1, ymax=bottom + 1, ymin=top + 1)
        _add(entry, difficult=0, pose="Unspecified")
        point = ElementTree.SubElement(entry, "point")
        _add(point, x=(left + right) // 2 + 1, y=(top + bottom) // 2 + 1)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, **texts: object) -> None:
    """Append one element for each text."""
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)


def _write_lists(folder: Path, split: str, images: list[tuple[str, list[Person]]]) -> None:
    """Write the list of images, and for each action who does it (1) and who does not (-1)."""
    write_lines(folder / f"{split}.txt", (name for name, _ in images))
    for action in CLASSES:
        lines = [
            f"{name} {at:2d} {1 if action in person else -1:2d}"
            for name, people in images
            for at, person in enumerate(people, start=1)
        ]
        write_lines(folder / f"{action}_{split}.txt", lines)
