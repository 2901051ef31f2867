"""Makes thumbnails: small JPEG copies of decoded pictures."""

from __future__ import annotations

import io

from PIL import Image

from pool3.errors import UsageError

MAX_SIDE = 2048
_QUALITY = 85


def check_side(side: int) -> None:
    """Raise `UsageError` unless `side` is a valid size of thumbnails."""
    if not 1 <= side <= MAX_SIDE:
        raise UsageError(f"expected thumbnails of 1 to {MAX_SIDE} pixels a side, found {side}")


def thumbnail(image: Image.Image, side: int) -> bytes:
    """Return a small copy of a picture without its metadata (such as location and camera).

    Parameters
    ----------
    image
        RGB, upright.
    side
        Largest side in pixels. A smaller picture is not enlarged.

    Returns
    -------
    bytes
        A baseline JPEG, RGB, at least 1 by 1 pixel, with the same proportions except for rounding.

    Raises
    ------
    UsageError
        If `side` is not in 1..2048.

    Examples
    --------
    >>> small = thumbnail(Image.new("RGB", (400, 300)), 160)
    >>> Image.open(io.BytesIO(small)).size
    (160, 120)
    """
    check_side(side)
    share = min(1.0, side / max(image.size))
    width, height = (max(1, round(length * share)) for length in image.size)
    # Reducing by a whole factor first avoids filtering each pixel of a large picture.
    small = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    small.info = {}
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
