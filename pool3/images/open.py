"""Opens a picture from a path, a uri, bytes, a PIL image or an array of pixels."""

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

# Enough to draw the query picture of a result on a contact sheet.
_COPY_SIDE = 512


def fetched_picture(uri: str | os.PathLike[str], draft_side: int | None = None) -> Image.Image:
    """Fetch and decode a picture.

    Parameters
    ----------
    uri
        A path or a uri that `pool3.storage` supports.
    draft_side
        As in `pool3.images.decode.decode`.

    Returns
    -------
    PIL.Image.Image
        RGB, upright.

    Raises
    ------
    StorageError, PictureError
        If it cannot be read or decoded.
    """
    data = storage.fetch(storage.canonical_uri(uri), max_bytes=DecodeLimits().max_bytes)
    return decode(data, draft_side=draft_side).image


def as_picture(query: Any, draft_side: int | None = None) -> Image.Image:
    """Convert a query picture to RGB.

    Parameters
    ----------
    query
        A path or uri, the bytes of a picture file, a PIL image, or a uint8 array (h, w, 3).
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
    kind = type(query).__name__
    if isinstance(query, np.ndarray):
        kind = f"an array of {query.dtype} of shape {query.shape}"
    raise UsageError(
        "a query must be a path or uri, a picture file's bytes, a PIL image, a uint8 array "
        f"(height, width, 3), a vector (one-dimensional array) or a list of these; found {kind}"
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
    copy.thumbnail((_COPY_SIDE, _COPY_SIDE))
    return copy
