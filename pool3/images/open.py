"""A picture opened from whatever a caller has: path, uri, bytes, PIL image, array of pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pool3 import storage
from pool3.errors import UsageError
from pool3.images.colour import to_rgb
from pool3.images.decode import DecodeLimits, decode

# What a result keeps of its query picture, to draw it on a contact sheet.
_KEPT_SIDE = 512


def fetched_picture(where: str | os.PathLike[str], draft_side: int | None = None) -> Image.Image:
    """Fetch and decode a picture.

    Parameters
    ----------
    where
        A path or a uri of the storage module.
    draft_side
        As in `pool3.images.decode.decode`.

    Returns
    -------
    PIL.Image.Image
        RGB, upright.

    Raises
    ------
    StorageError, PictureError
        When it cannot be read or decoded.
    """
    data = storage.fetch(storage.canonical_uri(where), max_bytes=DecodeLimits().max_bytes)
    return decode(data, draft_side=draft_side).image


def as_picture(query: Any, draft_side: int | None = None) -> Image.Image:
    """Make RGB of whatever a caller has in hand.

    Parameters
    ----------
    query
        A path or uri, a picture file's bytes, a PIL image, or a uint8 array (h, w, 3).
    draft_side
        As in `pool3.images.decode.decode`, for files.

    Raises
    ------
    UsageError
        For anything else.
    """
    if isinstance(query, str | Path):
        return fetched_picture(query, draft_side)
    if isinstance(query, bytes | bytearray | memoryview):
        return decode(bytes(query), draft_side=draft_side).image
    if isinstance(query, Image.Image):
        query.load()
        return to_rgb(ImageOps.exif_transpose(query))
    if _is_pixels(query):
        return Image.fromarray(np.ascontiguousarray(query))
    found = type(query).__name__
    if isinstance(query, np.ndarray):
        found = f"an array of {query.dtype} of shape {query.shape}"
    raise UsageError(
        "a query must be a path or uri, a picture file's bytes, a PIL image, a uint8 array "
        f"(height, width, 3), a vector (one-dimensional array) or a list of these; found {found}"
    )


def _is_pixels(query: Any) -> bool:
    return (
        isinstance(query, np.ndarray)
        and query.dtype == np.uint8
        and query.ndim == 3
        and query.shape[2] == 3
        and query.size > 0
    )


def small_copy(picture: Image.Image) -> Image.Image:
    """Return a copy of at most 512 pixels a side, for a contact sheet."""
    copy = picture.copy()
    copy.thumbnail((_KEPT_SIDE, _KEPT_SIDE))
    return copy
