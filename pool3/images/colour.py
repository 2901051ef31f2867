"""Converts pixels of any mode to 8-bit RGB.

Ignores embedded colour profiles, which `pool3.images.profiles` reads: values are treated as sRGB
unless the caller passes a conversion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
BITS_PER_SAMPLE = 258  # TIFF tag
WHITE = 255
BAND_PIXELS = 1_000_000


class Convert(Protocol):
    """Converts opaque pixels, or the colours of transparent ones, to RGB."""

    def __call__(self, image: Image.Image, *, in_place: bool) -> Image.Image:
        """Return the picture as RGB; with `in_place` its own pixels may be overwritten."""


def to_rgb(
    image: Image.Image, *, close: bool = False, convert: Convert | None = None
) -> Image.Image:
    """Convert a loaded picture to RGB.

    Transparent pixels are composited over white. 16-bit grey is scaled from its nominal range (12
    bits if a TIFF says so). 32-bit integers and floats have no nominal range and are scaled from
    their smallest to their largest finite value (NaN is black). CMYK, YCbCr and Lab are converted
    by Pillow, Lab by ImageCms.

    Parameters
    ----------
    image
        Any mode, loaded.
    close
        Whether the caller no longer needs `image`: then samples of 16 or 32 bits are freed before
        the grey levels become pixels, which saves a quarter of the memory, and RGB is converted in
        place.
    convert
        Converts 8-bit pixels to RGB, by Pillow if None.

    Returns
    -------
    PIL.Image.Image
        RGB, same size; the same object if it already was opaque RGB.
    """
    if image.mode in SIXTEEN_BIT_MODES or image.mode in {"I", "F"}:
        grey = _sixteen_bit(image) if image.mode in SIXTEEN_BIT_MODES else _unbounded(image)
        if close:
            image.close()
        return grey.convert("RGB") if convert is None else convert(grey, in_place=True)
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"), convert)
    if convert is not None:
        return convert(image, in_place=close)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(rgba: Image.Image, convert: Convert | None) -> Image.Image:
    colours = rgba if convert is None else convert(rgba, in_place=True)
    paper = Image.new("RGB", rgba.size, (WHITE, WHITE, WHITE))
    paper.paste(colours, mask=rgba.getchannel("A"))
    return paper


def _sixteen_bit(image: Image.Image) -> Image.Image:
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]
    top = (1 << min(max(bits, 8), 16)) - 1
    transparent = image.info.get("transparency")
    return _grey(image, 0, top, white=transparent if isinstance(transparent, int) else None)


def _unbounded(image: Image.Image) -> Image.Image:
    if image.format == "PPM" and image.mode == "I":  # Pillow scales it to 16 bits
        return _grey(image, 0, 65535)
    return _grey(image, *_finite_range(image))


def _bands(image: Image.Image) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """Yield samples in bands, each with its first row; an array of all would be three copies."""
    rows = max(1, BAND_PIXELS // max(image.width, 1))
    for start in range(0, image.height, rows):
        band = image.crop((0, start, image.width, min(start + rows, image.height)))
        yield start, np.asarray(band)


def _finite_range(image: Image.Image) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for _, band in _bands(image):
        finite = band[np.isfinite(band)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high


def _grey(image: Image.Image, low: float, high: float, white: int | None = None) -> Image.Image:
    """Map `low`..`high` to 0..255, and samples of the value `white` to 255."""
    grey = np.zeros((image.height, image.width), np.uint8)
    if not high > low:
        return Image.fromarray(grey)
    for start, samples in _bands(image):
        band = (samples.astype(np.float64) - low) * (255.0 / (high - low))
        band = np.clip(np.rint(np.nan_to_num(band, nan=0.0, posinf=255, neginf=0)), 0, 255)
        if white is not None:
            band[samples == white] = WHITE
        grey[start : start + len(band)] = band
    return Image.fromarray(grey)
