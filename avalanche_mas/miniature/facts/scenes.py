"""What pictures of each fact look like."""

from functools import partial

import numpy as np
from PIL import Image

import avalanche_mas.miniature.facts.animals as animals
import avalanche_mas.miniature.facts.sports as sports
import avalanche_mas.miniature.facts.things as things
from avalanche_mas.benchmarks.facts.fact import Fact
from avalanche_mas.miniature.canvas import Canvas, Drawing
from avalanche_mas.miniature.colours import Colour
from avalanche_mas.miniature.people import draw_person, draw_under

_SKIES: tuple[Colour, ...] = ((150, 190, 225), (185, 205, 220), (215, 190, 165), (205, 200, 190))
_GROUNDS: tuple[Colour, ...] = ((115, 150, 85), (165, 145, 110), (140, 140, 138), (150, 120, 90))
_WATER: Colour = (65, 120, 175)


def draw_fact(fact: Fact, rng: np.random.Generator, size: int) -> Image.Image:
    """Draw one picture of a fact.

    Place, size, direction, colours and light are left to chance. Things have no background of
    their own but for sports, and what swims or sails.

    :param fact: a key of ``FACTS``.
    :param rng: draws all that varies.
    :param size: the side of the picture in pixels.
    """
    sheet = Canvas(rng, size, ground=_SKIES[int(rng.integers(len(_SKIES)))])
    wet = fact.p in ("swimming", "sailing") or fact.s in ("fish", "boat")
    aloft = fact.s == "fish" or fact in (Fact("bird", "flying"), Fact("plane", "flying"))
    horizon = sheet.around(0.2 if fact.s == "fish" else 0.76, 0.05)
    ground = _WATER if wet else sheet.pick(_GROUNDS)
    sheet.box(0.0, horizon, 1.0, 1.0, sheet.shade(ground))
    y = sheet.around(0.5, 0.1) if aloft else horizon + sheet.around(0.1, 0.04)
    # a person's things are before them
    x = sheet.around(0.38 if fact.s == "person" and fact.kind == "SPO" else 0.5, 0.05)
    drawing, scale = FACTS[fact]
    flip = sheet.chance()
    with sheet.placed(1.0 - x if flip else x, y, scale=scale * sheet.around(1.0, 0.1), flip=flip):
        drawing(sheet)
    return sheet.photograph()


def _person(stance: str, gesture: str, thing: Drawing | None = None) -> Drawing:
    """Make a drawing of a person, on what they sit on and with a thing that they handle."""

    def draw(sheet: Canvas) -> None:
        draw_under(sheet, stance)
        draw_person(sheet, stance, gesture)
        if thing is not None:
            thing(sheet)

    return draw


def _cart_ahead(sheet: Canvas) -> None:
    with sheet.placed(0.4, 0.0, scale=1.15):
        things.draw_cart(sheet)


def _dog_on_leash(sheet: Canvas) -> None:
    things.draw_leash(sheet, (0.17, -0.5), (0.66, -0.26))
    with sheet.placed(0.6, 0.0, scale=0.5):
        animals.draw_animal(sheet, "dog")


def _chase(sheet: Canvas, prey: Drawing) -> None:
    with sheet.placed(-0.2, 0.0, scale=0.9):
        animals.draw_animal(sheet, "dog", "running")
    with sheet.placed(0.75, 0.0):
        prey(sheet)


def _ball(sheet: Canvas) -> None:
    things.draw_ball(sheet, 0.0, -0.12, 0.13, (225, 60, 60))


def _fleeing_cat(sheet: Canvas) -> None:
    with sheet.placed(0.15, 0.0, scale=0.85):
        animals.draw_animal(sheet, "cat", "running")


def _pull(sheet: Canvas) -> None:
    with sheet.placed(-0.82, 0.0, scale=1.1):
        things.draw_cart(sheet)
    sheet.stroke([(-0.35, -0.3), (0.2, -0.5)], 0.04, (90, 60, 40))
    with sheet.placed(0.4, 0.0, scale=0.75):
        animals.draw_animal(sheet, "horse", "running")


def _tow(sheet: Canvas) -> None:
    sheet.stroke([(-0.5, -0.14), (0.1, -0.12)], 0.04, (60, 60, 60))
    sheet.oval(-0.62, -0.08, 0.08, 0.08, (30, 30, 32))
    hull = [(-1.05, -0.36), (-0.3, -0.36), (-0.42, -0.14), (-0.92, -0.14)]
    sheet.polygon(hull, sheet.shade((150, 95, 50)))
    sheet.stroke([(-1.05, -0.36), (-0.3, -0.36)], 0.05, (225, 225, 220))
    with sheet.placed(0.45, 0.0, scale=0.85):
        things.draw_car(sheet)


def _perch(sheet: Canvas) -> None:
    with sheet.placed(0.1, 0.0, scale=1.05):
        things.draw_tree(sheet)
    with sheet.placed(0.1, -1.38, scale=0.62):
        animals.draw_bird(sheet)


_SPORTS: dict[str, Drawing] = {
    "football": sports.play_football,
    "tennis": sports.play_tennis,
    "basketball": sports.play_basketball,
    "golf": sports.play_golf,
    "volleyball": sports.play_volleyball,
    "baseball": sports.play_baseball,
    "ice hockey": sports.play_ice_hockey,
}

_INTERACTIONS: dict[tuple[str, str, str], tuple[Drawing, float]] = {
    **{("person", "playing", sport): (drawing, 0.6) for sport, drawing in _SPORTS.items()},
    ("person", "playing", "guitar"): (_person("standing", "playinginstrument"), 0.72),
    ("person", "playing", "drum"): (_person("standing", "ridingbike", things.draw_drum), 0.7),
    ("person", "riding", "horse"): (_person("ridinghorse", "ridinghorse"), 0.52),
    ("person", "riding", "bicycle"): (_person("ridingbike", "ridingbike"), 0.6),
    ("person", "reading", "book"): (_person("standing", "reading"), 0.75),
    ("person", "using", "computer"): (_person("usingcomputer", "usingcomputer"), 0.75),
    ("person", "taking", "photo"): (_person("standing", "takingphoto"), 0.75),
    ("person", "holding", "umbrella"): (
        _person("standing", "ridinghorse", things.draw_umbrella),
        0.52,
    ),
    ("person", "flying", "kite"): (_person("standing", "ridinghorse", things.draw_kite), 0.52),
    ("person", "pushing", "cart"): (_person("walking", "ridingbike", _cart_ahead), 0.55),
    ("person", "walking", "dog"): (_person("walking", "walking", _dog_on_leash), 0.62),
    ("dog", "chasing", "ball"): (partial(_chase, prey=_ball), 0.5),
    ("dog", "chasing", "cat"): (partial(_chase, prey=_fleeing_cat), 0.42),
    ("horse", "pulling", "cart"): (_pull, 0.46),
    ("car", "pulling", "boat"): (_tow, 0.42),
    ("bird", "sitting", "tree"): (_perch, 0.42),
}

_ACTIONS: dict[tuple[str, str], tuple[Drawing, float]] = {
    ("person", "running"): (_person("running", "running"), 0.72),
    ("person", "jumping"): (_person("jumping", "jumping"), 0.58),
    ("person", "walking"): (_person("walking", "walking"), 0.72),
    ("person", "phoning"): (_person("standing", "phoning"), 0.75),
    ("dog", "running"): (partial(animals.draw_animal, name="dog", pose="running"), 0.58),
    ("dog", "jumping"): (partial(animals.draw_animal, name="dog", pose="jumping"), 0.52),
    ("dog", "sleeping"): (partial(animals.draw_animal, name="dog", pose="sleeping"), 0.62),
    ("cat", "running"): (partial(animals.draw_animal, name="cat", pose="running"), 0.7),
    ("cat", "sleeping"): (partial(animals.draw_animal, name="cat", pose="sleeping"), 0.75),
    ("cow", "eating"): (partial(animals.draw_animal, name="cow", pose="eating"), 0.55),
    ("cow", "sleeping"): (partial(animals.draw_animal, name="cow", pose="sleeping"), 0.52),
    ("sheep", "eating"): (partial(animals.draw_animal, name="sheep", pose="eating"), 0.75),
    ("horse", "eating"): (partial(animals.draw_animal, name="horse", pose="eating"), 0.5),
    ("horse", "running"): (partial(animals.draw_animal, name="horse", pose="running"), 0.5),
    ("horse", "jumping"): (partial(animals.draw_animal, name="horse", pose="jumping"), 0.4),
    ("bird", "flying"): (partial(animals.draw_bird, pose="flying"), 0.6),
    ("plane", "flying"): (things.draw_plane, 0.55),
    ("duck", "swimming"): (animals.draw_duck, 0.6),
    ("boat", "sailing"): (partial(things.draw_boat, sail=True), 0.55),
}

_THINGS: dict[str, tuple[Drawing, float]] = {
    **{name: (partial(animals.draw_animal, name=name), 0.6) for name in ("dog", "cow", "sheep")},
    "cat": (partial(animals.draw_animal, name="cat"), 0.75),
    "bird": (animals.draw_bird, 0.7),
    "fish": (animals.draw_fish, 0.6),
    "car": (things.draw_car, 0.7),
    "boat": (things.draw_boat, 0.65),
    "tree": (things.draw_tree, 0.5),
}

FACTS: dict[Fact, tuple[Drawing, float]] = {
    **{Fact(*units): drawn for units, drawn in _INTERACTIONS.items()},
    **{Fact(*units): drawn for units, drawn in _ACTIONS.items()},
    **{Fact(subject): drawn for subject, drawn in _THINGS.items()},
}
"""Each fact's drawing, and the length of its unit as a share of the picture's height."""
