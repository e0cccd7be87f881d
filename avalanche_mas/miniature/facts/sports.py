"""People playing seven sports, each on its own ground: a unit is a person's height."""

from avalanche_mas.miniature.canvas import Canvas
from avalanche_mas.miniature.colours import BLACK, BROWN, GREY, WHITE
from avalanche_mas.miniature.facts.things import draw_ball
from avalanche_mas.miniature.people import draw_person

_LEFT, _RIGHT = -1.6, 2.0  # wider than any picture


def play_tennis(sheet: Canvas) -> None:
    """Draw a clay court with a net, a racket and a yellow ball."""
    _ground(sheet, (190, 100, 65))
    sheet.stroke([(_LEFT, 0.1), (_RIGHT, 0.1)], 0.03, WHITE)
    _net(sheet, 0.66, -0.34, 0.0)
    draw_person(sheet, "running", "ridinghorse")
    sheet.stroke([(0.26, -0.6), (0.36, -0.74)], 0.035, BLACK)
    sheet.oval(0.42, -0.86, 0.12, 0.16, (200, 45, 50))
    sheet.oval(0.42, -0.86, 0.085, 0.125, (225, 225, 205))
    draw_ball(sheet, 0.66, -0.98, 0.055, (215, 240, 70))


def play_football(sheet: Canvas) -> None:
    """Draw grass, a goal and a white ball with black spots at a foot."""
    _ground(sheet, (75, 150, 65))
    sheet.stroke([(0.62, 0.0), (0.62, -0.62), (1.4, -0.62), (1.4, 0.0)], 0.045, WHITE)
    _net(sheet, 0.62, -0.62, 0.0, right=1.4)
    draw_person(sheet, "running", "running")
    draw_ball(sheet, 0.42, -0.08, 0.1, WHITE)
    for x, y in ((0.42, -0.09), (0.36, -0.03), (0.48, -0.03), (0.42, -0.16)):
        sheet.oval(x, y, 0.028, 0.028, BLACK)


def play_basketball(sheet: Canvas) -> None:
    """Draw a wooden floor, a board with a ring and an orange ball above a jumper."""
    _ground(sheet, (205, 150, 90))
    sheet.stroke([(0.95, 0.1), (0.95, -1.15)], 0.06, GREY)
    sheet.box(0.72, -1.5, 0.8, -0.95, WHITE)
    sheet.stroke([(0.45, -1.02), (0.74, -1.02)], 0.04, (235, 90, 40))
    sheet.polygon([(0.46, -1.0), (0.72, -1.0), (0.65, -0.78), (0.53, -0.78)], (215, 215, 215))
    draw_person(sheet, "jumping", "jumping")
    draw_ball(sheet, 0.2, -1.24, 0.12, (235, 120, 40))
    sheet.stroke([(0.09, -1.24), (0.31, -1.24)], 0.018, BLACK)


def play_volleyball(sheet: Canvas) -> None:
    """Draw sand, a high net and a white and blue ball above it."""
    _ground(sheet, (230, 205, 145))
    sheet.stroke([(0.52, 0.05), (0.52, -1.0)], 0.045, GREY)
    _net(sheet, 0.52, -1.0, -0.55, right=1.6)
    draw_person(sheet, "jumping", "jumping")
    draw_ball(sheet, 0.36, -1.28, 0.12, (245, 245, 250))
    sheet.stroke([(0.27, -1.33), (0.45, -1.24)], 0.05, (60, 95, 190))


def play_golf(sheet: Canvas) -> None:
    """Draw a green with a flag, a club and a small ball."""
    _ground(sheet, (105, 175, 80))
    sheet.oval(0.85, 0.08, 0.4, 0.06, (140, 205, 105))
    sheet.stroke([(0.9, 0.07), (0.9, -0.75)], 0.025, WHITE)
    sheet.polygon([(0.9, -0.76), (1.2, -0.66), (0.9, -0.55)], (220, 40, 40))
    draw_person(sheet, "standing", "ridinghorse")
    sheet.stroke([(0.27, -0.6), (0.42, -0.02), (0.48, -0.02)], 0.03, (60, 60, 65))
    draw_ball(sheet, 0.58, -0.03, 0.05, WHITE)


def play_baseball(sheet: Canvas) -> None:
    """Draw brown earth before grass, a raised bat and a ball that comes."""
    sheet.box(_LEFT, -0.3, _RIGHT, 0.0, (85, 150, 75))
    _ground(sheet, (165, 120, 80))
    sheet.polygon([(0.3, 0.06), (0.5, 0.04), (0.55, 0.12), (0.35, 0.14)], WHITE)
    draw_person(sheet, "standing", "ridinghorse")
    sheet.stroke([(0.27, -0.62), (0.16, -0.9)], 0.045, sheet.shade(BROWN))
    sheet.stroke([(0.16, -0.9), (0.04, -1.2)], 0.085, (205, 165, 105))
    draw_ball(sheet, 0.82, -0.6, 0.07, WHITE)
    sheet.stroke([(0.79, -0.63), (0.85, -0.57)], 0.018, (210, 40, 40))


def play_ice_hockey(sheet: Canvas) -> None:
    """Draw ice with a red line, a long stick and a puck."""
    _ground(sheet, (225, 238, 248))
    sheet.polygon([(-0.75, 0.0), (-0.6, 0.0), (-0.72, 0.4), (-0.9, 0.4)], (205, 60, 65))
    sheet.box(_LEFT, -0.16, _RIGHT, -0.02, (235, 235, 230))
    sheet.stroke([(_LEFT, -0.02), (_RIGHT, -0.02)], 0.05, (60, 90, 180))
    draw_person(sheet, "running", "ridinghorse")
    sheet.stroke([(0.33, -0.62), (0.62, 0.0), (0.82, 0.02)], 0.05, (150, 95, 50))
    sheet.oval(0.98, 0.02, 0.09, 0.045, BLACK)


def _ground(sheet: Canvas, colour: tuple[int, int, int]) -> None:
    sheet.box(_LEFT, -0.02, _RIGHT, 1.0, sheet.shade(colour, 6.0))


def _net(sheet: Canvas, left: float, top: float, bottom: float, right: float = 2.0) -> None:
    for step in range(int((right - left) / 0.1) + 1):
        x = left + 0.1 * step
        sheet.stroke([(x, top), (x, bottom)], 0.012, (205, 205, 205))
    for step in range(int((bottom - top) / 0.1) + 1):
        y = top + 0.1 * step
        sheet.stroke([(left, y), (right, y)], 0.012, (205, 205, 205))
    sheet.stroke([(left, top), (right, top)], 0.045, WHITE)
