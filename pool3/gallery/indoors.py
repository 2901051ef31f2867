"""Close-up scenes: flowers, still lifes, tiles and fabrics; also planets."""

from __future__ import annotations

import numpy as np

from pool3.gallery.canvas import Canvas, Colour, Point, hsv, mixed


def _bokeh(canvas: Canvas, hue: float) -> None:
    """Fill with an out-of-focus background."""
    dark = hsv(hue, canvas.uniform(0.3, 0.7), canvas.uniform(0.15, 0.5))
    canvas.gradient([mixed(dark, (255, 255, 255), canvas.uniform(0, 0.5)), dark])
    for _ in range(30):
        x, y = canvas.uniform(0, 1) * canvas.w, canvas.uniform(0, 1) * canvas.h
        radius = canvas.h * canvas.uniform(0.02, 0.12)
        spot = mixed(dark, hsv(hue + canvas.uniform(-0.15, 0.15), 0.4, 0.9), canvas.uniform(0, 0.7))
        canvas.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=spot)
    canvas.blur(canvas.h / 50)


def flowers(canvas: Canvas) -> None:
    """Draw blossoms on stems in front of a blurred garden."""
    _bokeh(canvas, canvas.uniform(0.2, 0.6))
    hue = canvas.uniform(0.6, 1.2)
    petals, pointed = int(canvas.rng.integers(5, 22)), canvas.uniform(0.12, 0.34)
    for size in np.sort(canvas.rng.uniform(0.09, 0.32, int(canvas.rng.integers(1, 9)))):
        radius = float(size) * canvas.h
        centre = (canvas.uniform(0.1, 0.9) * canvas.w, canvas.uniform(0.15, 0.7) * canvas.h)
        stem = hsv(canvas.uniform(0.25, 0.36), 0.65, canvas.uniform(0.3, 0.5))
        foot = (centre[0] + canvas.uniform(-0.1, 0.1) * canvas.w, float(canvas.h))
        canvas.draw.line([centre, foot], fill=stem, width=round(radius * 0.09) + 2)
        colour = hsv(hue + canvas.uniform(-0.06, 0.06), canvas.uniform(0.3, 0.9), 0.95)
        _blossom(canvas, centre, radius, petals=petals, width=pointed, colour=colour)


def _blossom(
    canvas: Canvas, centre: Point, radius: float, *, petals: int, width: float, colour: Colour
) -> None:
    turn = canvas.uniform(0, 2 * np.pi)
    along = np.linspace(0, np.pi, 18)
    for ring in (1.0, 0.7):
        for petal in range(petals):
            angle = turn + 2 * np.pi * (petal + (1 - ring)) / petals
            reach = radius * ring * canvas.uniform(0.9, 1.05)
            length = reach * (1 - np.cos(along)) / 2
            half = radius * width * np.sin(along) ** 0.8
            half = np.concatenate([half, -half[::-1]])
            length = np.concatenate([length, length[::-1]])
            x = centre[0] + length * np.cos(angle) - half * np.sin(angle)
            y = centre[1] + length * np.sin(angle) + half * np.cos(angle)
            shade = mixed(colour, (30, 10, 40), canvas.uniform(0, 0.35) * ring)
            outline = mixed(shade, (20, 10, 20), 0.3)
            points = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
            canvas.draw.polygon(points, fill=shade, outline=outline)
    heart = hsv(canvas.uniform(0.05, 0.16), 0.85, canvas.uniform(0.35, 0.95))
    canvas.ball(centre, (radius * 0.24, radius * 0.24), heart)


def still_life(canvas: Canvas) -> None:
    """Draw fruit, bottles and a bowl on a table in front of a wall."""
    wall = hsv(canvas.uniform(0, 1), canvas.uniform(0.1, 0.5), canvas.uniform(0.25, 0.8))
    canvas.gradient([mixed(wall, (0, 0, 0), 0.4), wall])
    canvas.tint(canvas.noise(coarsest=3) * 0.35, mixed(wall, (255, 250, 235), 0.5))
    edge = canvas.h * canvas.uniform(0.52, 0.68)
    wood = hsv(canvas.uniform(0.04, 0.11), canvas.uniform(0.3, 0.65), canvas.uniform(0.3, 0.7))
    table = [(0.0, edge), (canvas.w, edge), (canvas.w, canvas.h), (0.0, canvas.h)]
    canvas.textured(table, wood, strength=0.4, coarsest=12)
    for _ in range(int(canvas.rng.integers(0, 4))):
        _bottle(canvas, canvas.uniform(0.1, 0.9) * canvas.w, edge + canvas.h * 0.06)
    if canvas.rng.random() < 0.6:
        _bowl(canvas, canvas.uniform(0.3, 0.7) * canvas.w, edge + canvas.h * 0.1)
    hue = canvas.uniform(0, 1)
    for y in np.sort(canvas.rng.uniform(edge + canvas.h * 0.08, canvas.h * 0.92, 7)):
        if canvas.rng.random() < 0.75:
            radius = canvas.h * canvas.uniform(0.05, 0.11)
            x = canvas.uniform(0.05, 0.95) * canvas.w
            _fruit(canvas, (x, float(y)), radius, hsv(hue + canvas.uniform(-0.2, 0.2), 0.85, 0.85))


def _fruit(canvas: Canvas, centre: Point, radius: float, colour: Colour) -> None:
    x, y = centre
    canvas.shadow((x + radius * 0.4, y + radius * 0.85), (radius * 1.3, radius * 0.35))
    canvas.ball(centre, (radius, radius * canvas.uniform(0.85, 1.2)), colour)
    stalk = (x, y - radius * 0.8, x + radius * 0.15, y - radius * 1.25)
    canvas.draw.line(stalk, fill=(70, 50, 30), width=5)


def _bottle(canvas: Canvas, x: float, foot: float) -> None:
    width, height = canvas.w * canvas.uniform(0.04, 0.08), canvas.h * canvas.uniform(0.3, 0.5)
    glass = hsv(canvas.uniform(0, 1), canvas.uniform(0.2, 0.7), canvas.uniform(0.2, 0.6))
    canvas.shadow((x + width * 0.6, foot), (width * 1.6, width * 0.3))
    shoulder, neck = foot - height * 0.62, width * 0.32
    for strip in np.linspace(-1, 1, 25):
        shade = mixed(glass, (255, 255, 255), 0.75 * float(np.exp(-(((strip + 0.45) * 5) ** 2))))
        shade = mixed(shade, (0, 0, 0), 0.5 * float(strip) ** 2)
        left, step = x + strip * width, width / 12
        canvas.draw.rectangle((left - step, shoulder, left + step, foot), shade)
        left, step = x + strip * neck, neck / 12
        canvas.draw.rectangle((left - step, foot - height, left + step, shoulder), shade)
    label = hsv(canvas.uniform(0, 1), canvas.uniform(0, 0.5), 0.9)
    canvas.draw.rectangle((x - width, foot - height * 0.42, x + width, foot - height * 0.16), label)


def _bowl(canvas: Canvas, x: float, y: float) -> None:
    rx, ry = canvas.w * canvas.uniform(0.14, 0.22), canvas.h * canvas.uniform(0.12, 0.2)
    glaze = hsv(canvas.uniform(0, 1), canvas.uniform(0.1, 0.6), canvas.uniform(0.6, 0.95))
    canvas.shadow((x, y + ry), (rx * 1.2, ry * 0.3))
    for _ in range(6):
        radius = rx * canvas.uniform(0.22, 0.36)
        place = (x + canvas.uniform(-0.6, 0.6) * rx, y - canvas.uniform(0.05, 0.4) * ry)
        canvas.ball(place, (radius, radius), hsv(canvas.uniform(0, 0.35), 0.85, 0.9))
    canvas.draw.chord((x - rx, y - ry, x + rx, y + ry), 0, 180, fill=glaze)
    band = mixed(glaze, hsv(canvas.uniform(0, 1), 0.8, 0.5), 0.8)
    canvas.draw.arc((x - rx, y - ry, x + rx, y + ry), 8, 172, fill=band, width=10)
    canvas.draw.line((x - rx, y, x + rx, y), fill=mixed(glaze, (0, 0, 0), 0.4), width=6)


def tiles(canvas: Canvas) -> None:
    """Draw a tiled wall: one motif, repeated and rotated."""
    colours = [
        hsv(canvas.uniform(0, 1), canvas.uniform(0.2, 0.9), canvas.uniform(0.3, 1))
        for _ in range(4)
    ]
    canvas.gradient([colours[0], colours[0]])
    side = canvas.h / int(canvas.rng.integers(3, 7))
    motif = int(canvas.rng.integers(4))
    for row in range(int(canvas.h / side) + 1):
        for column in range(int(canvas.w / side) + 1):
            turn = int(canvas.rng.integers(4)) if motif == 0 else (row + column) % 4
            at = (column * side, row * side)
            _tile(canvas, at, side, motif=motif, turn=turn, colours=colours)
    canvas.tint(canvas.noise(coarsest=4) * 0.35, (24, 20, 24))


def _tile(
    canvas: Canvas, at: Point, side: float, *, motif: int, turn: int, colours: list[Colour]
) -> None:
    x, y = at
    box = (x, y, x + side, y + side)
    corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    canvas.draw.rectangle(box, colours[turn % 2])
    if motif == 0:
        for cx, cy in (corners[turn], corners[(turn + 2) % 4]):
            half, pen = side / 2, max(round(side / 6), 2)
            arc = (cx - half, cy - half, cx + half, cy + half)
            start = 90 * corners.index((cx, cy))
            canvas.draw.arc(arc, start, start + 90, fill=colours[2], width=pen)
    elif motif == 1:
        canvas.draw.polygon(
            [corners[turn], corners[(turn + 1) % 4], corners[(turn + 2) % 4]], colours[2]
        )
        inner = (x + side * 0.35, y + side * 0.35, x + side * 0.65, y + side * 0.65)
        canvas.draw.ellipse(inner, fill=colours[3])
    elif motif == 2:
        for ring in range(4):
            inset = side * ring / 8
            inner = (x + inset, y + inset, x + side - inset, y + side - inset)
            canvas.draw.ellipse(inner, fill=colours[(ring + turn) % 4])
    else:
        middle = (x + side / 2, y + side / 2)
        for corner in range(4):
            wedge = [middle, corners[corner], corners[(corner + 1) % 4]]
            canvas.draw.polygon(wedge, fill=colours[(corner + turn) % 4])
    canvas.draw.rectangle(box, outline=mixed(colours[0], (0, 0, 0), 0.5), width=3)


def fabric(canvas: Canvas) -> None:
    """Draw a woven cloth with stripes and folds."""
    weights = canvas.rng.dirichlet(np.ones(int(canvas.rng.integers(3, 9))))
    colours = np.array([
        hsv(canvas.uniform(0, 1), canvas.uniform(0.2, 0.9), canvas.uniform(0.2, 1)) for _ in weights
    ])  # fmt: skip
    period = canvas.h * canvas.uniform(0.15, 0.6)
    fold = (canvas.noise(coarsest=2, octaves=3) - 0.5) * canvas.h * canvas.uniform(0.05, 0.35)
    y, x = np.mgrid[: canvas.h, : canvas.w]
    bands = np.cumsum(weights)
    warp = np.searchsorted(bands, ((x + fold) / period) % 1).clip(0, len(weights) - 1)
    weft = np.searchsorted(bands, ((y + fold) / period) % 1).clip(0, len(weights) - 1)
    over = ((x // 4 + y // 4) % 2 == 0)[:, :, None]
    cloth = np.where(over, colours[warp], colours[weft]).astype(np.float32)
    slope = np.gradient(fold, axis=1) * 1.4 + np.gradient(fold, axis=0)
    canvas.put(cloth * np.clip(1 + slope, 0.35, 1.5)[:, :, None])


def planet(canvas: Canvas) -> None:
    """Draw a planet with bands or clouds among stars and nebulae."""
    space = hsv(canvas.uniform(0, 1), 0.7, 0.08)
    canvas.gradient([space, (4, 4, 10)])
    for _ in range(2):
        cloud = np.clip(canvas.noise(coarsest=2) - 0.45, 0, 1) * canvas.uniform(0.6, 1.6)
        canvas.tint(cloud, hsv(canvas.uniform(0, 1), 0.75, 0.8))
    for _ in range(260):
        x, y = canvas.uniform(0, 1) * canvas.w, canvas.uniform(0, 1) * canvas.h
        size = canvas.uniform(0.5, 3.5)
        canvas.draw.ellipse((x - size, y - size, x + size, y + size), fill=(236, 236, 226))
    radius = canvas.h * canvas.uniform(0.15, 0.42)
    centre = (canvas.uniform(0.25, 0.75) * canvas.w, canvas.uniform(0.3, 0.7) * canvas.h)
    ringed = bool(canvas.rng.random() < 0.5)
    sand = hsv(canvas.uniform(0, 1), canvas.uniform(0.2, 0.7), 0.9)
    _planet(canvas, centre, radius, sand)
    if ringed:
        rx, ry = radius * 1.8, radius * canvas.uniform(0.2, 0.5)
        box = (centre[0] - rx, centre[1] - ry, centre[0] + rx, centre[1] + ry)
        canvas.draw.arc(box, -15, 195, fill=mixed(sand, (255, 255, 255), 0.3), width=12)


def _planet(canvas: Canvas, centre: Point, radius: float, colour: Colour) -> None:
    before = canvas.pixels()
    canvas.ball(centre, (radius, radius), colour, light=(canvas.uniform(-0.6, 0.6), -0.4))
    y, x = np.mgrid[: canvas.h, : canvas.w]
    inside = np.hypot(x - centre[0], y - centre[1]) <= radius
    swirl = canvas.noise(coarsest=5)
    if canvas.rng.random() < 0.5:
        swirl = (np.sin((y - centre[1]) / radius * canvas.uniform(5, 18) + swirl * 5) + 1) / 2
    canvas.tint(inside * swirl.astype(np.float32) * 0.55, hsv(canvas.uniform(0, 1), 0.6, 0.3))
    pixels = canvas.pixels()
    canvas.put(np.where(inside[:, :, None], pixels, before))
