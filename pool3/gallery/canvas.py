"""A canvas to draw scenes on, with gradients, noise and shaded solids.

Shapes are drawn without anti-aliasing at twice the size of the picture; `Canvas.finished` shrinks
it, which smooths all edges. The module is independent of the scenes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
Noise = NDArray[np.float32]

OVERSAMPLING = 2


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return the RGB colour of a hue (one turn = 1), a saturation and a value (both 0..1)."""
    red, green, blue = colorsys.hsv_to_rgb(
        hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    )
    return (round(red * 255), round(green * 255), round(blue * 255))


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """Return the colour that lies `share` of the way from `a` to `b`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return (red, green, blue)


def fractal_noise(
    rng: np.random.Generator, size: tuple[int, int], *, coarsest: int = 3, octaves: int = 5
) -> Noise:
    """Return smooth noise, float32 (h, w), in 0..1; `coarsest` cells across the longer side."""
    width, height = size
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cell = max(width, height) / (coarsest * 2**octave)
        grid = rng.random((int(height / cell) + 2, int(width / cell) + 2), np.float32)
        layer = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(layer) * 0.55**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


class Canvas:
    """A picture being drawn: `image` (RGB, `w` by `h`, twice the final size) and its generator."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng = rng
        self.size = size
        self.w, self.h = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
        self.image = Image.new("RGB", (self.w, self.h))
        self.draw = ImageDraw.Draw(self.image)

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""
        return float(self.rng.uniform(low, high))

    def noise(self, *, coarsest: int = 3, octaves: int = 5) -> Noise:
        """Return fractal noise of the canvas' size."""
        return fractal_noise(self.rng, (self.w, self.h), coarsest=coarsest, octaves=octaves)

    def put(self, pixels: NDArray[np.floating]) -> None:
        """Replace the whole picture by float pixels (h, w, 3) in 0..255."""
        self.image.paste(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)))

    def pixels(self) -> Noise:
        """Return the picture as float32 (h, w, 3)."""
        return np.asarray(self.image, np.float32)

    def gradient(self, colours: Sequence[Colour], *, bottom: float = 1.0) -> None:
        """Fill with a vertical gradient through `colours`, which ends at `bottom` (0..1)."""
        stops = np.linspace(0, bottom * self.h, len(colours))
        column = np.stack(
            [
                np.interp(np.arange(self.h), stops, channel)
                for channel in zip(*colours, strict=True)
            ],
            axis=1,
        )
        self.put(np.broadcast_to(column[:, None, :], (self.h, self.w, 3)))

    def tint(self, alpha: Noise, colour: Colour) -> None:
        """Blend the picture with `colour`; `alpha` (h, w) in 0..1 is its opacity."""
        pixels = self.pixels()
        target = np.array(colour, np.float32)
        self.put(pixels + (target - pixels) * np.clip(alpha, 0, 1)[:, :, None])

    def glow(self, centre: Point, radius: float, colour: Colour, strength: float = 0.8) -> None:
        """Add a soft light that fades with the distance from `centre`."""
        y, x = np.ogrid[: self.h, : self.w]
        distance = np.hypot(x - centre[0], y - centre[1]).astype(np.float32)
        self.tint(np.exp(-((distance / radius) ** 2)) * strength, colour)

    def textured(
        self, points: Sequence[Point], colour: Colour, *, strength: float = 0.35, coarsest: int = 24
    ) -> None:
        """Fill a polygon with `colour`, mottled by noise."""
        xs, ys = zip(*points, strict=True)
        left, top = max(int(min(xs)), 0), max(int(min(ys)), 0)
        size = (min(int(max(xs)) + 1, self.w) - left, min(int(max(ys)) + 1, self.h) - top)
        if min(size) <= 0:
            return
        mask = Image.new("L", size)
        outline = [(x - left, y - top) for x, y in points]
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        cells = max(round(coarsest * max(size) / self.w), 2)
        mottle = fractal_noise(self.rng, size, coarsest=cells, octaves=4)
        shade = 1 + strength * (mottle - 0.5) * 2
        fill = np.clip(shade[:, :, None] * np.array(colour, np.float32), 0, 255)
        self.image.paste(Image.fromarray(fill.astype(np.uint8)), (left, top), mask)

    def ball(
        self, centre: Point, radii: Point, colour: Colour, *, light: Point = (-0.45, -0.5)
    ) -> None:
        """Draw an ellipsoid lit from `light` (direction in its own plane), with a highlight."""
        rx, ry = max(radii[0], 2.0), max(radii[1], 2.0)
        y, x = np.mgrid[-1 : 1 : complex(0, int(2 * ry)), -1 : 1 : complex(0, int(2 * rx))]
        inside = x * x + y * y <= 1
        depth = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
        facing = np.clip(light[0] * x + light[1] * y + 0.74 * depth, 0, 1)
        body = np.array(colour) * (0.28 + 0.85 * facing[:, :, None])
        body += 190 * (facing**24)[:, :, None]
        solid = Image.fromarray(np.clip(body, 0, 255).astype(np.uint8))
        corner = (round(centre[0] - rx), round(centre[1] - ry))
        self.image.paste(solid, corner, Image.fromarray(inside.astype(np.uint8) * 255))

    def shadow(self, centre: Point, radii: Point, strength: float = 0.5) -> None:
        """Darken a soft ellipse, like the shadow of an object on a table."""
        y, x = np.ogrid[: self.h, : self.w]
        distance = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
        self.tint(np.exp(-distance).astype(np.float32) * strength, (10, 8, 12))

    def blur(self, radius: float) -> None:
        """Blur what has been drawn so far."""
        self.image.paste(self.image.filter(ImageFilter.GaussianBlur(radius)))

    def finished(self, *, grain: float = 5.0) -> Image.Image:
        """Return the picture at its final size, with film grain."""
        small = self.image.resize(self.size, Image.Resampling.BOX)
        speckle = self.rng.normal(0, grain, (self.size[1], self.size[0], 1))
        pixels = np.asarray(small, np.float32) + speckle
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
