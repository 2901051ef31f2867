"""Draws scenes, one per seed, for the demo and for the calibration of the seeded model.

Different seeds give different scenes; the same seed always gives the same scene.
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
    """Return the kind of the scene of `seed`; consecutive seeds have different kinds."""
    return list(KINDS)[seed % len(KINDS)]


def draw_scene(seed: int, *, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """Draw one scene.

    Parameters
    ----------
    seed
        The number of the scene, 0 or more.
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
