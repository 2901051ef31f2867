"""Drawn scenes that look like something, one for each seed.

The demo searches them, and the constants of the seeded model are measured on them. Two seeds give
two different scenes; the same seed gives the same scene.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from pool3.gallery import indoors, outdoors, town
from pool3.gallery.canvas import Canvas

KINDS: dict[str, Callable[[Canvas], None]] = {
    "mountains": outdoors.mountains,
    "still-life": indoors.still_life,
    "street": town.street,
    "flowers": indoors.flowers,
    "seaside": outdoors.seaside,
    "tiles": indoors.tiles,
    "skyline": town.skyline,
    "balloons": outdoors.balloons,
    "fabric": indoors.fabric,
    "woods": outdoors.woods,
    "planet": indoors.planet,
}


def kind_of(seed: int) -> str:
    """Return what the scene of `seed` shows; neighbouring seeds show different things."""
    return list(KINDS)[seed % len(KINDS)]


def draw_scene(seed: int, *, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """Draw one scene.

    Parameters
    ----------
    seed
        Which scene, 0 or more.
    size
        Width and height in pixels.

    Returns
    -------
    PIL.Image.Image
        RGB, of that size, the same for the same seed and size.

    Examples
    --------
    >>> draw_scene(3, size=(64, 48)).size
    (64, 48)
    """
    canvas = Canvas(np.random.default_rng([seed, 1729]), size)
    KINDS[kind_of(seed)](canvas)
    return canvas.finished()
