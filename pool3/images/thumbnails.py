"""Small JPEG copies of pictures, made while a picture is open."""

from __future__ import annotations

import io

from PIL import Image

from pool3.errors import UsageError

MOST_SIDE = 2048
_QUALITY = 85


def check_side(side: int) -> None:
    """Raise `UsageError` unless thumbnails may be that long."""
    if not 1 <= side <= MOST_SIDE:
        raise UsageError(f"expected thumbnails of 1 to {MOST_SIDE} pixels a side, found {side}")


def thumbnail(image: Image.Image, side: int) -> bytes:
    """Return a small copy of a picture; nothing but pixels goes along, no place and no camera.

    Parameters
    ----------
    image
        RGB, upright.
    side
        Most pixels along the longer side. A picture that is smaller keeps its size.

    Returns
    -------
    bytes
        A baseline JPEG, RGB, of at least 1 by 1 pixel and, but for rounding, the same proportions.

    Raises
    ------
    UsageError
        When `side` is not in 1..2048.

    Examples
    --------
    >>> small = thumbnail(Image.new("RGB", (400, 300)), 160)
    >>> Image.open(io.BytesIO(small)).size
    (160, 120)
    """
    check_side(side)
    share = min(1.0, side / max(image.size))
    width, height = (max(1, round(length * share)) for length in image.size)
    # Reduced by a whole factor first: a picture of 50 megapixels would be filtered pixel by pixel.
    small = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    small.info = {}
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
