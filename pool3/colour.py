"""Pixels of any mode to 8-bit RGB.

Colour profiles embedded in a file are not applied: the numbers are taken as sRGB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
BITS_PER_SAMPLE = 258  # TIFF tag
WHITE = 255


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded picture to RGB.

    Transparent pixels are laid over white. 16-bit grey is scaled from its nominal range (of 12 bits
    where a TIFF says 12); 32-bit integers and floats have no nominal range and are stretched from
    their smallest to their largest finite value (NaN is black). CMYK, YCbCr and Lab are
    converted as Pillow does, Lab through ImageCms.

    Parameters
    ----------
    image
        Any mode, loaded.

    Returns
    -------
    PIL.Image.Image
        RGB, same size; the same object when it was opaque RGB already.
    """
    if image.mode in SIXTEEN_BIT_MODES:
        return _sixteen_bit(image).convert("RGB")
    if image.mode in {"I", "F"}:
        return _unbounded(image).convert("RGB")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(rgba: Image.Image) -> Image.Image:
    paper = Image.new("RGB", rgba.size, (WHITE, WHITE, WHITE))
    paper.paste(rgba, mask=rgba.getchannel("A"))
    return paper


def _sixteen_bit(image: Image.Image) -> Image.Image:
    samples = np.asarray(image)
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]
    top = (1 << min(max(bits, 8), 16)) - 1
    grey = np.clip(_rows_scaled(samples, 0, top), 0, 255)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey = np.where(samples == transparent, WHITE, grey)
    return Image.fromarray(grey.astype(np.uint8))


def _unbounded(image: Image.Image) -> Image.Image:
    samples = np.asarray(image)
    if image.format == "PPM" and image.mode == "I":  # Pillow has scaled it to 16 bits
        return Image.fromarray(_rows_scaled(samples, 0, 65535))
    finite = samples[np.isfinite(samples)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return Image.fromarray(_rows_scaled(samples, low, high))


def _rows_scaled(samples: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """Map `low`..`high` to 0..255, band by band: float64 of the whole would be eightfold."""
    grey = np.zeros(samples.shape, np.uint8)
    if not high > low:
        return grey
    rows = max(1, 1_000_000 // max(samples.shape[1], 1))
    for start in range(0, len(samples), rows):
        band = samples[start : start + rows].astype(np.float64)
        band = np.nan_to_num((band - low) * (255.0 / (high - low)), nan=0.0, posinf=255, neginf=0)
        grey[start : start + rows] = np.clip(np.rint(band), 0, 255)
    return grey
