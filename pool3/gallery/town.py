"""Scenes in town: a street by day, a skyline at night."""

from __future__ import annotations

import numpy as np

from pool3.gallery.canvas import Canvas, Colour, hsv, mixed
from pool3.gallery.outdoors import painted_sky


def street(canvas: Canvas) -> None:
    """Draw a row of houses, a road and cars."""
    painted_sky(canvas, bottom=0.8, clouds=canvas.uniform(0, 0.8))
    ground = canvas.h * canvas.uniform(0.76, 0.86)
    x = -canvas.uniform(0, 0.1) * canvas.w
    hue, spread = canvas.uniform(0, 1), canvas.uniform(0.04, 0.5)
    while x < canvas.w:
        width = canvas.w * canvas.uniform(0.13, 0.3)
        wall = hsv(hue + canvas.uniform(-spread, spread), canvas.uniform(0.15, 0.65), 0.8)
        _house(canvas, x, ground, width, wall)
        x += width
    road = [(0.0, ground), (canvas.w, ground), (canvas.w, canvas.h), (0.0, canvas.h)]
    canvas.textured(road, hsv(0.6, 0.06, canvas.uniform(0.25, 0.5)), strength=0.3, coarsest=150)
    middle = (ground + canvas.h) / 2
    for dash in range(-1, 9):
        left = (dash + 0.3) * canvas.w / 8
        canvas.draw.rectangle((left, middle - 3, left + canvas.w / 18, middle + 3), (226, 222, 206))
    for _ in range(int(canvas.rng.integers(0, 4))):
        _car(canvas, ground)


def _house(canvas: Canvas, x: float, ground: float, width: float, wall: Colour) -> None:
    top = ground - canvas.h * canvas.uniform(0.35, 0.66)
    front = [(x, top), (x + width, top), (x + width, ground), (x, ground)]
    canvas.textured(front, wall, strength=0.14, coarsest=90)
    roof = hsv(canvas.uniform(0.95, 1.1), 0.55, canvas.uniform(0.3, 0.6))
    if canvas.rng.random() < 0.6:
        peak = (x + width / 2, top - canvas.h * canvas.uniform(0.06, 0.16))
        canvas.draw.polygon([(x - 4, top), peak, (x + width + 4, top)], fill=roof)
    else:
        canvas.draw.rectangle((x, top - 14, x + width, top), roof)
    columns, rows = int(canvas.rng.integers(2, 5)), int(canvas.rng.integers(2, 6))
    pane = mixed(hsv(0.57, 0.4, 0.4), (255, 226, 150), float(canvas.rng.random() < 0.3))
    pitch_x, pitch_y = width / columns, (ground - top) / (rows + 0.8)
    for row in range(rows):
        for column in range(columns):
            left, high = x + (column + 0.25) * pitch_x, top + (row + 0.3) * pitch_y
            box = (left, high, left + pitch_x * 0.5, high + pitch_y * 0.6)
            canvas.draw.rectangle(box, pane, outline=mixed(wall, (255, 255, 255), 0.7), width=4)
    door = x + width * canvas.uniform(0.2, 0.6)
    canvas.draw.rectangle(
        (door, ground - pitch_y * 0.75, door + width * 0.16, ground), mixed(roof, (20, 20, 30), 0.5)
    )


def _car(canvas: Canvas, ground: float) -> None:
    length = canvas.w * canvas.uniform(0.12, 0.2)
    x, y = canvas.uniform(0, 0.85) * canvas.w, ground + canvas.h * canvas.uniform(0.03, 0.11)
    paint = hsv(canvas.uniform(0, 1), 0.8, 0.8)
    cabin = (x + length * 0.22, y - length * 0.34, x + length * 0.75, y)
    canvas.draw.rounded_rectangle(cabin, length * 0.1, mixed(paint, (150, 190, 210), 0.6))
    body = (x, y - length * 0.18, x + length, y + length * 0.08)
    canvas.draw.rounded_rectangle(body, length * 0.07, paint)
    for wheel in (0.2, 0.8):
        centre, radius = (x + length * wheel, y + length * 0.08), length * 0.09
        canvas.ball(centre, (radius, radius), (38, 38, 42))


def skyline(canvas: Canvas) -> None:
    """Draw towers with lit windows at night, and their reflection in a river."""
    night = hsv(canvas.uniform(0.55, 0.85), 0.7, canvas.uniform(0.1, 0.22))
    dusk = hsv(canvas.uniform(0.9, 1.12), canvas.uniform(0.3, 0.7), canvas.uniform(0.35, 0.7))
    canvas.gradient([night, mixed(night, dusk, 0.4), dusk], bottom=0.7)
    ground = canvas.h * canvas.uniform(0.66, 0.8)
    moon = (canvas.uniform(0.1, 0.9) * canvas.w, canvas.uniform(0.08, 0.3) * canvas.h)
    canvas.glow(moon, canvas.h * 0.16, (210, 214, 230), 0.5)
    canvas.ball(moon, (canvas.h * 0.045, canvas.h * 0.045), (236, 232, 214))
    lamp = hsv(canvas.uniform(0.08, 0.2), canvas.uniform(0.2, 0.7), 1)
    for layer in (0.35, 0.75):
        for _ in range(int(canvas.rng.integers(9, 18))):
            _tower(canvas, ground, mixed(dusk, night, layer + 0.2), lamp)
    pixels = canvas.pixels()
    line = int(ground)
    rows = np.arange(line, canvas.h)
    mirrored = pixels[np.clip(2 * line - rows, 0, line)]
    wobble = (np.sin(rows * 0.5) * 6 + np.sin(rows * 0.13) * 9).astype(int)
    for row, shift in enumerate(wobble):
        mirrored[row] = np.roll(mirrored[row], shift, axis=0)
    pixels[line:] = mirrored * 0.6 + np.array(night) * 0.3
    canvas.put(pixels)


def _tower(canvas: Canvas, ground: float, wall: Colour, lamp: Colour) -> None:
    width = canvas.w * canvas.uniform(0.04, 0.11)
    x, top = canvas.uniform(-0.05, 1) * canvas.w, ground - canvas.h * canvas.uniform(0.12, 0.6)
    canvas.draw.rectangle((x, top, x + width, ground), wall)
    pitch = canvas.h * canvas.uniform(0.016, 0.03)
    lit = canvas.uniform(0.15, 0.6)
    for y in np.arange(top + pitch, ground - pitch, pitch):
        for left in np.arange(x + pitch * 0.5, x + width - pitch, pitch):
            if canvas.rng.random() < lit:
                glow = mixed(wall, lamp, canvas.uniform(0.5, 1))
                canvas.draw.rectangle((left, y, left + pitch * 0.5, y + pitch * 0.45), glow)
