"""Outdoor scenes: mountains, sea, woods, balloons."""

from __future__ import annotations

import numpy as np

from pool3.gallery.canvas import Canvas, Colour, Point, hsv, mixed

SKIES: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((46, 96, 178), (128, 178, 224), (226, 236, 240)),
    ((42, 36, 92), (196, 92, 112), (250, 190, 110)),
    ((90, 104, 122), (150, 162, 172), (208, 210, 206)),
    ((16, 60, 92), (88, 158, 170), (244, 222, 170)),
    ((96, 60, 120), (226, 140, 160), (255, 226, 190)),
)


def _ridge(canvas: Canvas, base: float, height: float, bumps: int) -> list[Point]:
    """Return the outline of hills from edge to edge, closed along the bottom."""
    steps = 160
    x = np.linspace(0, 1, steps)
    line = np.zeros(steps)
    for octave in range(5):
        knots = canvas.rng.random(bumps * 2**octave + 1)
        line += np.interp(x, np.linspace(0, 1, len(knots)), knots) * 0.5**octave
    y = base - height * (line / line.max())
    outline = [(float(a * canvas.w), float(b * canvas.h)) for a, b in zip(x, y, strict=True)]
    return [(0.0, float(canvas.h)), *outline, (float(canvas.w), float(canvas.h))]


def painted_sky(canvas: Canvas, *, bottom: float, clouds: float) -> tuple[Colour, Colour, Colour]:
    """Fill with one of the skies and clouds of opacity `clouds` (0..1); return its colours."""
    colours = SKIES[int(canvas.rng.integers(len(SKIES)))]
    canvas.gradient(colours, bottom=bottom)
    if clouds:
        threshold = canvas.uniform(0.45, 0.65)
        cover = (canvas.noise(coarsest=int(canvas.rng.integers(2, 5))) - threshold) * 4
        canvas.tint(np.clip(cover, 0, 1) * clouds, mixed(colours[2], (255, 255, 255), 0.6))
    return colours


def _conifer(canvas: Canvas, foot: Point, height: float, colour: Colour) -> None:
    x, y = foot
    canvas.draw.rectangle((x - height * 0.03, y - height * 0.2, x + height * 0.03, y), (60, 42, 30))
    for tier in range(4):
        top, low = y - height * (1 - tier * 0.2), y - height * (0.55 - tier * 0.15)
        half = height * (0.12 + tier * 0.06)
        shade = mixed(colour, (10, 20, 15), tier * 0.15)
        canvas.draw.polygon([(x, top), (x - half, low), (x + half, low)], fill=shade)


def mountains(canvas: Canvas) -> None:
    """Draw ridges in the haze, a meadow or a lake, firs in front."""
    sky = painted_sky(canvas, bottom=0.7, clouds=canvas.uniform(0.3, 0.9))
    ridges = int(canvas.rng.integers(2, 5))
    rock = hsv(canvas.uniform(0, 1), canvas.uniform(0.15, 0.5), canvas.uniform(0.25, 0.5))
    for number in range(ridges):
        closeness = (number + 1) / ridges
        base = 0.5 + 0.22 * closeness
        outline = _ridge(
            canvas, base, canvas.uniform(0.15, 0.42) * (1.2 - closeness * 0.6), 3 + number
        )
        canvas.textured(outline, mixed(sky[2], rock, closeness), strength=0.3)
    _foreground(canvas, lake=bool(canvas.rng.random() < 0.4))
    green = hsv(canvas.uniform(0.25, 0.42), 0.5, 0.35)
    for _ in range(int(canvas.rng.integers(0, 14))):
        y = canvas.uniform(0.8, 1.02)
        size = canvas.uniform(0.7, 1.3) * (y - 0.5) * 0.7
        _conifer(canvas, (canvas.uniform(0, canvas.w), y * canvas.h), size * canvas.h, green)


def _foreground(canvas: Canvas, *, lake: bool) -> None:
    shore = int(canvas.h * canvas.uniform(0.7, 0.8))
    if not lake:
        meadow = hsv(canvas.uniform(0.1, 0.35), canvas.uniform(0.35, 0.7), canvas.uniform(0.4, 0.7))
        ground = _ridge(canvas, shore / canvas.h + 0.05, 0.08, 2)
        canvas.textured(ground, meadow, strength=0.5, coarsest=60)
        return
    pixels = canvas.pixels()
    rows = np.arange(shore, canvas.h)
    ripple = (np.sin(rows * 0.35) * (rows - shore) * 0.04).astype(int)
    source = np.clip(2 * shore - rows + ripple, 0, shore)
    pixels[shore:] = pixels[source] * 0.72 + np.array([8, 18, 28])
    canvas.put(pixels)


def seaside(canvas: Canvas) -> None:
    """Draw a low sun over the waves, sails, a beach."""
    sky = painted_sky(canvas, bottom=0.55, clouds=canvas.uniform(0, 0.7))
    horizon = canvas.uniform(0.4, 0.6) * canvas.h
    sun = (canvas.uniform(0.15, 0.85) * canvas.w, horizon - canvas.uniform(0.02, 0.3) * canvas.h)
    canvas.glow(sun, canvas.h * 0.3, (255, 214, 140), 0.8)
    disc = canvas.h * canvas.uniform(0.03, 0.08)
    box = (sun[0] - disc, sun[1] - disc, sun[0] + disc, sun[1] + disc)
    canvas.draw.ellipse(box, fill=(255, 246, 214))
    water = hsv(canvas.uniform(0.46, 0.64), canvas.uniform(0.4, 0.8), canvas.uniform(0.3, 0.6))
    frame = [(0.0, horizon), (canvas.w, horizon), (canvas.w, canvas.h), (0.0, canvas.h)]
    canvas.textured(frame, water, strength=0.25, coarsest=40)
    for _ in range(340):
        y = horizon + (canvas.h - horizon) * canvas.uniform(0, 1) ** 1.4
        closeness = (y - horizon) / (canvas.h - horizon)
        spread = canvas.w * (0.06 + 0.3 * closeness)
        x = float(canvas.rng.normal(sun[0], spread))
        length, thick = canvas.w * (0.006 + 0.04 * closeness), 1 + 5 * closeness
        shine = mixed(water, sky[2], canvas.uniform(0.3, 1))
        canvas.draw.ellipse((x - length, y - thick / 2, x + length, y + thick / 2), fill=shine)
    for _ in range(int(canvas.rng.integers(0, 4))):
        _sail(canvas, horizon)
    if canvas.rng.random() < 0.6:
        sand = hsv(canvas.uniform(0.08, 0.13), 0.35, canvas.uniform(0.7, 0.9))
        beach = _ridge(canvas, canvas.uniform(0.86, 0.95), 0.06, 1)
        canvas.textured(beach, sand, strength=0.25, coarsest=120)


def _sail(canvas: Canvas, horizon: float) -> None:
    x, size = canvas.uniform(0.1, 0.9) * canvas.w, canvas.uniform(0.06, 0.24) * canvas.h
    y = horizon + size * 0.5
    cloth = hsv(canvas.uniform(0, 1), canvas.uniform(0, 0.7), 0.95)
    canvas.draw.polygon([(x, y - size), (x, y), (x + size * 0.6, y)], fill=cloth)
    left = [(x - 3, y - size * 0.8), (x - 3, y), (x - size * 0.4, y)]
    canvas.draw.polygon(left, fill=mixed(cloth, (90, 90, 110), 0.3))
    low = y + size * 0.16
    hull = [(x - size * 0.5, y + 3), (x + size * 0.7, y + 3), (x + size * 0.4, low)]
    canvas.draw.polygon([*hull, (x - size * 0.3, low)], fill=(70, 40, 34))


def woods(canvas: Canvas) -> None:
    """Draw trunks in the fog, leaves above and on the ground."""
    season = canvas.uniform(0.02, 0.42)
    fog = hsv(season + canvas.uniform(0, 0.3), 0.15, canvas.uniform(0.6, 0.95))
    canvas.gradient([mixed(fog, hsv(season, 0.6, 0.5), 0.4), fog, hsv(season, 0.4, 0.4)])
    for closeness in np.linspace(0.15, 1, int(canvas.rng.integers(8, 20))):
        bark = mixed(
            fog, hsv(canvas.uniform(0.03, 0.1), 0.35, canvas.uniform(0.15, 0.4)), closeness
        )
        x, width = canvas.uniform(0, 1) * canvas.w, canvas.w * (0.008 + 0.045 * closeness)
        foot = canvas.h * (0.62 + 0.36 * closeness)
        lean = canvas.uniform(-0.06, 0.06) * canvas.w
        trunk = [(x + lean, 0.0), (x + lean + width * 0.7, 0.0), (x + width, foot), (x, foot)]
        if closeness > 0.5:
            canvas.textured(trunk, bark, strength=0.6, coarsest=40)
        else:
            canvas.draw.polygon(trunk, fill=bark)
    for _ in range(int(canvas.rng.integers(500, 1600))):
        high = bool(canvas.rng.random() < 0.6)
        y = abs(float(canvas.rng.normal(0, 0.2))) if high else 1 - canvas.uniform(0, 1) ** 2 * 0.35
        x, size = canvas.uniform(0, 1) * canvas.w, canvas.uniform(3, 15)
        leaf = hsv(season + canvas.uniform(-0.05, 0.05), 0.7, canvas.uniform(0.25, 0.85))
        canvas.draw.ellipse((x, y * canvas.h, x + size, y * canvas.h + size * 0.6), fill=leaf)


def balloons(canvas: Canvas) -> None:
    """Draw striped hot-air balloons over low hills."""
    sky = painted_sky(canvas, bottom=0.9, clouds=canvas.uniform(0.2, 0.9))
    land = hsv(canvas.uniform(0, 0.4), canvas.uniform(0.3, 0.6), canvas.uniform(0.3, 0.6))
    for closeness in (0.4, 0.9):
        hills = _ridge(canvas, 0.8 + 0.14 * closeness, canvas.uniform(0.05, 0.15), 3)
        canvas.textured(hills, mixed(sky[2], land, closeness), strength=0.4, coarsest=50)
    for size in np.sort(canvas.rng.uniform(0.05, 0.26, int(canvas.rng.integers(1, 8)))):
        radius = float(size) * canvas.h
        centre = (canvas.uniform(0.08, 0.92) * canvas.w, canvas.uniform(0.15, 0.6) * canvas.h)
        _balloon(canvas, centre, radius)


def _balloon(canvas: Canvas, centre: Point, radius: float) -> None:
    x, y = centre
    hue = canvas.uniform(0, 1)
    low = y + radius * 1.75
    for side in (-1, 1):
        rope = (x + side * radius * 0.5, y + radius * 0.8, x + side * radius * 0.12, low)
        canvas.draw.line(rope, fill=(70, 60, 50), width=3)
    canvas.ball(centre, (radius, radius * 1.08), hsv(hue, 0.8, 0.9))
    gap = canvas.uniform(0.1, 0.5)
    for stripe, colour in ((0.72, hsv(hue + gap, 0.7, 0.95)), (0.34, hsv(hue, 0.85, 0.85))):
        canvas.ball(centre, (radius * stripe, radius * 1.08), colour)
    basket = (x - radius * 0.14, low, x + radius * 0.14, low + radius * 0.22)
    canvas.draw.rectangle(basket, (118, 80, 44))
